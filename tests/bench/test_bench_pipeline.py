from __future__ import annotations

import io
import json
import math
import shutil
import statistics
from pathlib import Path

import pytest
from rich.console import Console

from compress.artifact import RunFolder, compact_info
from compress.bench import BenchResult, bench, read, summary_row
from compress.bench.files import onnx_pair
from compress.bench.results.table import render_bench_table
from compress.core.errors import CompressError, Exit
from compress.core.files import sha256_file
from compress.export import export


@pytest.fixture(scope="session")
def measured(untouched_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BenchResult]:
    path = Path(shutil.copytree(untouched_run, tmp_path_factory.mktemp("measured") / "tiny-run"))
    return path, bench(path, batches=(1, 4), threads=1, pairs=10, command=["compress", "bench"])


def test_the_result_is_written_and_read_back_the_same(measured: tuple[Path, BenchResult]) -> None:
    path, result = measured
    assert read(path / "bench" / "results.json") == result


def test_every_batch_size_is_compared(measured: tuple[Path, BenchResult]) -> None:
    assert [entry.batch for entry in measured[1].comparisons[0].batches] == [1, 4]


def test_ratios_lie_in_their_intervals(measured: tuple[Path, BenchResult]) -> None:
    for entry in measured[1].comparisons[0].batches:
        assert 0 < entry.speedup.low <= entry.speedup.ratio <= entry.speedup.high
        assert 0 < entry.noise.low <= entry.noise.ratio <= entry.noise.high
        assert entry.speedup.pairs == entry.noise.pairs == 10


def test_every_session_is_recorded_and_counts_in_the_interval(measured: tuple[Path, BenchResult]) -> None:
    result = measured[1]
    assert result.sessions == 5  # ten pairs are five blocks of two
    assert "5 sessions" in result.protocol
    for entry in result.comparisons[0].batches:
        assert entry.speedup.sessions == entry.noise.sessions == len(entry.sessions) == 5
        assert [one.speedup.pairs for one in entry.sessions] == [2] * 5
        for of_all, own in (
            (entry.speedup, [one.speedup.ratio for one in entry.sessions]),
            (entry.noise, [one.noise.ratio for one in entry.sessions]),
        ):
            assert of_all.ratio == pytest.approx(statistics.median(own))
            assert of_all.low <= statistics.geometric_mean(own) <= of_all.high
        assert entry.others_load == pytest.approx(statistics.fmean(one.others_load for one in entry.sessions))


def test_efficiency_is_the_speed_up_over_the_mac_reduction(measured: tuple[Path, BenchResult]) -> None:
    for entry in measured[1].comparisons[0].batches:
        assert entry.mac_reduction == 2.0
        assert entry.efficiency == pytest.approx(entry.speedup.ratio / 2.0)


def test_the_floor_is_the_reach_of_the_comparison_with_itself(measured: tuple[Path, BenchResult]) -> None:
    for entry in measured[1].comparisons[0].batches:
        reach = max(abs(math.log(entry.noise.low)), abs(math.log(entry.noise.high)))
        assert entry.floor == pytest.approx(reach)


def test_percentiles_are_given_by_their_counts(measured: tuple[Path, BenchResult]) -> None:
    for entry in measured[1].comparisons[0].batches:
        for side in (entry.baseline, entry.candidate):
            assert (side.p99_ms is not None) == (side.count >= 1000)
            assert side.count >= 10
            assert side.p50_ends_ms is not None


def test_the_record_says_how_and_where_it_was_measured(measured: tuple[Path, BenchResult]) -> None:
    result = measured[1]
    assert (result.threads, result.comparisons[0].session["intra_op_num_threads"]) == (1, "1")
    assert result.command == ("compress", "bench")
    assert "session.run" in result.comparisons[0].timed
    assert result.machine.cores >= 1
    assert {"python", "numpy"} <= result.versions.keys()


def test_the_networks_are_described_by_their_files(measured: tuple[Path, BenchResult]) -> None:
    path, result = measured
    dense, compact = result.comparisons[0].baseline, result.comparisons[0].candidate
    assert (dense.label, compact.label) == ("dense", "compact")
    assert compact.sha256 == sha256_file(path / "bench" / "models" / "compact.onnx")
    assert dense.sha256 == sha256_file(path / "bench" / "models" / "dense.onnx")
    assert (dense.macs, compact.macs) == (5888, 2944)
    assert dense.opset == compact.opset
    assert (dense.top1, compact.top1) == (None, 0.875)


def test_the_table_shows_speed_up_verdict_and_what_was_timed(measured: tuple[Path, BenchResult]) -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(render_bench_table(measured[1]))
    text = console.export_text()
    for entry in measured[1].comparisons[0].batches:
        assert f"{entry.speedup.ratio:.2f}x" in text
        assert entry.verdict.value in text
    assert "session.run" in text
    assert "87.50%" in text


def test_the_table_warns_where_others_took_the_processors(measured: tuple[Path, BenchResult]) -> None:
    result = measured[1]

    def shown(share: float) -> str:
        first = result.comparisons[0]
        batches = tuple(entry.model_copy(update={"others_load": share}) for entry in first.batches)
        console = Console(width=160, record=True, file=io.StringIO())
        changed = (first.model_copy(update={"batches": batches}),)
        console.print(render_bench_table(result.model_copy(update={"comparisons": changed})))
        return console.export_text()

    assert "Other processes used up to 43%" in shown(0.43)
    assert "Other processes" not in shown(0.02)


def test_the_summary_row_is_that_of_the_batch_asked_for(measured: tuple[Path, BenchResult]) -> None:
    result = measured[1]
    assert summary_row(result).batch == 1
    assert summary_row(result, 4).speedup == result.comparisons[0].batches[1].speedup.ratio
    with pytest.raises(KeyError):
        summary_row(result, 99)


def test_files_are_made_once_for_the_same_model(run: Path) -> None:
    with RunFolder.open(run, write=True) as folder:
        first = onnx_pair(folder, compact_info(folder))
        before = [path.stat().st_mtime_ns for path in (first.dense, first.compact)]
        second = onnx_pair(folder, compact_info(folder))
    assert [path.stat().st_mtime_ns for path in (second.dense, second.compact)] == before


def test_a_cached_file_that_was_changed_is_made_again(run: Path) -> None:
    with RunFolder.open(run, write=True) as folder:
        good = onnx_pair(folder, compact_info(folder)).compact.read_bytes()
        (run / "bench" / "models" / "compact.onnx").write_bytes(b"tampered")
        assert onnx_pair(folder, compact_info(folder)).compact.read_bytes() == good


def test_a_plain_export_of_the_run_is_measured_itself_with_a_dense_one_of_its_opset(run: Path) -> None:
    export(run, samples=16, opset=18)
    with RunFolder.open(run, write=True) as folder:
        pair = onnx_pair(folder, compact_info(folder))
    assert pair.compact == run / "export" / "model.onnx"
    assert pair.opset == 18


@pytest.mark.parametrize("how", ["changed", "fixed batch"])
def test_an_export_that_is_not_plain_or_not_trusted_is_not_measured(run: Path, how: str) -> None:
    path = export(run, samples=16, batch=2 if how == "fixed batch" else "dynamic").path
    if how == "changed":
        path.write_bytes(path.read_bytes() + b"\0")
    with RunFolder.open(run, write=True) as folder:
        assert onnx_pair(folder, compact_info(folder)).compact == run / "bench" / "models" / "compact.onnx"


@pytest.mark.parametrize(
    "options",
    [
        {"batches": (0,)},
        {"batches": ()},
        {"threads": 0},
        {"pairs": 3},
        {"budget_s": -1.0},
        {"sessions": 0},
        {"pairs": 10, "sessions": 6},
    ],
)
def test_impossible_options_are_refused_before_anything_is_written(
    run: Path, options: dict[str, object]
) -> None:
    with pytest.raises(CompressError) as caught:
        bench(run, **options)  # type: ignore[arg-type]
    assert caught.value.exit is Exit.USAGE
    assert not (run / "bench").exists()


def test_a_run_without_a_compact_model_is_refused(run: Path) -> None:
    (run / "compact" / "weights.safetensors").unlink()
    with pytest.raises(CompressError, match="weights") as caught:
        bench(run)
    assert caught.value.exit is Exit.MISSING
    assert not (run / "bench" / "results.json").exists()


def test_a_result_of_one_session_is_still_read(measured: tuple[Path, BenchResult], tmp_path: Path) -> None:
    value = json.loads((measured[0] / "bench" / "results.json").read_text())
    del value["sessions"]
    for entry in value["comparisons"][0]["batches"]:
        del entry["sessions"], entry["speedup"]["sessions"], entry["noise"]["sessions"]
    (tmp_path / "results.json").write_text(json.dumps(value | {"schema_version": 3}))
    result = read(tmp_path / "results.json")
    assert result.sessions == 1
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(render_bench_table(result))
    assert result.comparisons[0].batches[0].verdict.value in console.export_text()


def test_a_result_of_another_version_is_refused(measured: tuple[Path, BenchResult], tmp_path: Path) -> None:
    value = json.loads((measured[0] / "bench" / "results.json").read_text())
    (tmp_path / "results.json").write_text(json.dumps(value | {"schema_version": 9}))
    with pytest.raises(CompressError, match="schema version 9"):
        read(tmp_path / "results.json")


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"schema_version": 2, "kind": "compress-bench"}')
    with pytest.raises(CompressError, match=r"results\.json"):
        read(tmp_path / "results.json")
