"""Several artifacts in one run: who is compared with whom, and how they are described."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console
from torch import nn

from compress.artifact import RunFolder
from compress.bench import bench
from compress.bench.artifacts import Subject, artifact_path, artifact_record, comparisons
from compress.bench.files import Pair
from compress.bench.protocol.worker import Side
from compress.bench.results.table import render_bench_table
from compress.core.errors import CompressError, Exit
from compress.core.files import sha256_file
from compress.export import export


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """Two folders and two files, without content."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.onnx").touch()
    return tmp_path


def labels(places: Path, *names: str) -> list[tuple[str, str]]:
    result = comparisons([places / name for name in names])
    return [(baseline.label, candidate.label) for baseline, candidate in result]


def test_a_run_alone_is_dense_against_compact(places: Path) -> None:
    assert labels(places, "a") == [("dense", "compact")]


def test_every_run_is_compared_with_its_own_dense_network(places: Path) -> None:
    assert labels(places, "a", "b") == [("a dense", "a compact"), ("b dense", "b compact")]


def test_a_file_is_compared_with_the_compact_network_of_a_run_named_first(places: Path) -> None:
    assert labels(places, "a", "b.onnx") == [("a dense", "a compact"), ("a compact", "b.onnx")]


def test_of_files_the_first_is_the_baseline(places: Path) -> None:
    assert labels(places, "a.onnx", "b.onnx", "b") == [("a.onnx", "b.onnx"), ("b dense", "b compact")]


def test_artefacts_of_the_same_name_are_told_apart_by_their_paths(places: Path) -> None:
    (places / "a" / "b").mkdir()
    result = labels(places, "b", "a/b")
    assert result[0][1] == f"{places / 'b'} compact"
    assert result[1][1] == f"{places / 'a' / 'b'} compact"


@pytest.mark.parametrize(
    ("names", "code"),
    [((), "bad-option"), (("a", "a"), "bad-option"), (("a.onnx",), "nothing-to-compare"),
     (("a.onnx", "b"), "nothing-to-compare")],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(places: Path, names: tuple[str, ...], code: str) -> None:
    with pytest.raises(CompressError) as caught:
        labels(places, *names)
    assert (caught.value.code, caught.value.exit) == (code, Exit.USAGE)


def test_a_run_and_an_exported_file_are_measured_together(run: Path, wide: Path, tmp_path: Path) -> None:
    own = export(run, samples=16).path
    moved = Path(shutil.copy(own, tmp_path / "moved.onnx"))
    result = bench(run, own, moved, threads=1, pairs=10, sessions=2, out=tmp_path / "out" / "found.json")
    assert result.artefacts == (run.name, "model.onnx", "moved.onnx")
    first, exported, foreign = result.comparisons
    assert (first.baseline.label, first.candidate.label) == (f"{run.name} dense", f"{run.name} compact")
    assert exported.baseline == foreign.baseline == first.candidate
    assert exported.candidate.sha256 == foreign.candidate.sha256 == sha256_file(own)
    assert exported.candidate.macs == first.candidate.macs
    assert exported.batches[0].mac_reduction == 1.0
    assert foreign.candidate.macs is None
    assert foreign.batches[0].efficiency is None
    assert (tmp_path / "out" / "found.json").is_file()
    assert not (run / "bench" / "results.json").exists()
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(render_bench_table(result))
    text = console.export_text()
    for word in (f"{run.name} dense", "model.onnx", "moved.onnx", "baseline"):
        assert word in text


def test_the_dense_accuracy_is_the_runs_where_it_was_cut_from_a_trained_network(run: Path) -> None:
    model = run / "compact" / "model.json"
    values = json.loads(model.read_text())
    values["extra"]["dense_top1"] = 0.9
    model.write_text(json.dumps(values))
    dense = Subject("dense", run, "dense")
    result = artifact_record(dense, Side(label="dense", path=run, network="dense"), Pair(run, run, None))
    assert (result.top1, result.top1_images) == (0.9, 360)


def test_a_file_of_another_kind_is_refused_before_anything_is_measured(run: Path, tmp_path: Path) -> None:
    (tmp_path / "model.xml").touch()
    with pytest.raises(CompressError, match=r"'ort-cpu' does not read a \.xml file"):
        bench(run, tmp_path / "model.xml", backend="ort-cpu")
    assert not (run / "bench").exists()


def test_a_comparison_that_one_back_end_cannot_run_is_skipped_and_reported(run: Path) -> None:
    file = export(run, samples=16).path
    result = bench(run, file, backend="ort-cpu,torch", threads=1, pairs=10, sessions=1)
    assert [(c.backend, c.candidate.label) for c in result.comparisons] == [
        ("ort-cpu", "tiny-run compact"),
        ("ort-cpu", "model.onnx"),
        ("torch", "tiny-run compact"),
    ]
    (skipped,) = result.skipped
    assert (skipped.backend, skipped.candidate) == ("torch", "model.onnx")
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render_bench_table(result))
    for text in (str(result), console.export_text(), result._repr_html_()):
        assert "skipped on torch: model.onnx" in text
    assert "tiny-run compact against tiny-run dense on torch, batch 1:" in str(result)


def test_artifacts_may_be_results_and_open_runs(run: Path) -> None:
    @dataclass
    class Result:
        run: Path

    assert artifact_path(Result(run)) == artifact_path(str(run)) == run
    with RunFolder.open(run, write=False) as folder:
        assert artifact_path(folder) == folder.path
    with pytest.raises(CompressError, match="not Linear") as caught:
        artifact_path(nn.Linear(1, 1))
    assert "export" in caught.value.hint
