"""A small run explained on this machine: the losses add up; the result is written, read back and shown."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from compress import artifact, cli, data, models
from compress.artifact import RunFolder
from compress.bench.explain import Cause, Explanation, explain, read, render_explanation
from compress.bench.explain.record import MEANING
from compress.bench.report import report
from compress.bench.report.figures import draw_layer_losses
from compress.core import console
from compress.core.errors import CompressError, Exit
from compress.cost import dense_costs
from compress.graph import trace
from compress.planning import make_plan
from compress.slicing import slice_model

FACTORY = """
import torch
from torch import nn

class Residual(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_channels, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.first = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32))
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(32, num_classes)

    def forward(self, x):
        x = self.stem(x)
        x = torch.relu(x + self.second(self.first(x)))
        return self.head(self.pool(x).mean((2, 3)))

def residual(num_classes=10, in_channels=1):
    return Residual(num_classes, in_channels)
"""

LAYERS = {"stem.0", "first.0", "second.0", "head"}
OTHERS = ("openvino", "torch")
BACKENDS = ("ort-cpu", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run cut to 17 of 32 channels."""
    file = tmp_path_factory.mktemp("factory") / "net.py"
    file.write_text(FACTORY)
    name, size = f"{file}:residual", (1, 8, 8)
    torch.manual_seed(0)
    dense = models.build(name, 10, size).eval()
    graph = trace(dense, torch.zeros(2, *size))
    plan = make_plan(graph, keep={group.name: 17 for group in graph.groups})
    spec = models.model_spec(name, 10, size)
    record = artifact.new_record(
        model=spec,
        data=data.load("digits", input_size=size).info,
        dense=dense_costs(graph),
        target="widths",
        seed=0,
        method="slice-l1",
        settings={},
    )
    path = tmp_path_factory.mktemp("runs") / "narrow"
    with RunFolder.create(path, record) as run:
        artifact.save_compact(run, slice_model(dense, plan), spec, plan, {})
    return path


def run_command(run_folder: Path, *backends: str) -> dict[str, Any]:
    """Return the output of the command with ``--json``."""
    arguments = ["bench", str(run_folder), "--explain", "--backend", ",".join(backends), "--threads", "1"]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert cli.run([*arguments, "--pairs", "10", "--json"]) == 0
    value: dict[str, Any] = json.loads(out.getvalue())
    return value


def parse(output: dict[str, Any]) -> dict[str, Explanation]:
    entries = [Explanation.model_validate(entry) for entry in output["explanations"]]
    return {entry.backend: entry for entry in entries}


@pytest.fixture(scope="module")
def printed(run_folder: Path) -> dict[str, Any]:
    """The output of the command on ONNX Runtime."""
    return run_command(run_folder, "ort-cpu")


@pytest.fixture(scope="module")
def printed_by_others(run_folder: Path) -> dict[str, Any]:
    """The output of the command on the other back ends."""
    return run_command(run_folder, *OTHERS)


@pytest.fixture(scope="module")
def explained(printed: dict[str, Any]) -> dict[str, Explanation]:
    """The explanations of the fast tests, by back end."""
    return parse(printed)


@pytest.fixture
def explanation(request: pytest.FixtureRequest, backend: str) -> Explanation:
    """The explanation of a back end."""
    name = "printed" if backend == "ort-cpu" else "printed_by_others"
    return parse(request.getfixturevalue(name))[backend]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_rows_add_up_to_the_time_of_both_networks(explanation: Explanation) -> None:
    assert sum(row.dense.ms for row in explanation.rows) == pytest.approx(explanation.dense_ms)
    assert sum(row.compact.ms for row in explanation.rows) == pytest.approx(explanation.compact_ms)


@pytest.mark.parametrize("backend", BACKENDS)
def test_losses_by_row_and_by_cause_add_up_to_the_gap(explanation: Explanation) -> None:
    gap = explanation.compact_ms - explanation.dense_ms / explanation.mac_reduction
    assert explanation.gap_ms == pytest.approx(gap)
    assert sum(row.loss_ms for row in explanation.rows) == pytest.approx(gap)
    assert sum(part.ms for part in explanation.causes) == pytest.approx(gap)
    for row in explanation.rows:
        assert sum(part.ms for part in row.parts) == pytest.approx(row.loss_ms, abs=1e-9)
    assert explanation.adds_up == (abs(explanation.remainder_ms) <= explanation.remainder_noise_ms)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_layer_has_its_costs_and_time(explanation: Explanation) -> None:
    layers = {row.name: row for row in explanation.rows if row.kind == "layer"}
    assert set(layers) == LAYERS
    assert explanation.profile.unseen == ()
    first = layers["first.0"]
    assert (first.dense.macs, first.compact.macs) == (64 * 9 * 32 * 32, 64 * 9 * 17 * 17)
    assert (first.dense.outputs, first.compact.outputs) == (32, 17)
    assert first.compact.bytes == 4 * (17 * 64 * 2 + 17 * 17 * 9 + 17)
    assert all(row.compact.ms >= 0 and row.compact.kernels for row in layers.values())
    dense_macs = sum(row.dense.macs or 0 for row in explanation.rows)
    compact_macs = sum(row.compact.macs or 0 for row in explanation.rows)
    assert explanation.mac_reduction == pytest.approx(dense_macs / compact_macs)


def test_the_roofline_of_the_machine_is_measured(explained: dict[str, Explanation]) -> None:
    for explanation in explained.values():
        assert explanation.roofline.macs_per_s > 1e8
        assert explanation.roofline.bytes_per_s > 1e7
        assert explanation.roofline.ridge == pytest.approx(
            explanation.roofline.macs_per_s / explanation.roofline.bytes_per_s
        )
        assert explanation.profile.node_us > 0


def test_a_result_is_read_back_unchanged(run_folder: Path, explained: dict[str, Explanation]) -> None:
    for backend, explanation in explained.items():
        assert read(run_folder / "bench" / f"explain-{backend}.json") == explanation


def test_the_table_shows_every_cause_with_its_meaning(
    explained: dict[str, Explanation], capsys: pytest.CaptureFixture[str]
) -> None:
    explanation = explained["ort-cpu"]
    console.print_result(render_explanation(explanation))
    shown = capsys.readouterr().out
    for part in explanation.causes:
        assert part.cause.value in shown
        assert MEANING[part.cause][:30] in shown
    assert "= the gap; the remainder of" in shown
    assert "GMACs/s" in shown
    assert set(MEANING) == set(Cause)


def test_the_figure_has_a_bar_for_every_row(explained: dict[str, Explanation]) -> None:
    drawn = draw_layer_losses(explained["ort-cpu"], "x0")
    assert drawn is not None
    assert drawn.startswith("<svg")
    for name in LAYERS:
        assert name in drawn


def test_the_report_shows_the_explanations_of_the_run(
    run_folder: Path, explained: dict[str, Explanation], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(run_folder, tmp_path / "narrow"))
    page = report(run).html.read_text()
    for backend in explained:
        assert f"Lost speed-up by cause ({backend}, batch 1)" in page
    (run / "bench" / "explain-torch.json").write_text("{}")
    assert "explain-torch.json" in report(run).html.read_text()


def test_the_command_prints_the_explanation(printed: dict[str, Any]) -> None:
    assert printed["command"] == "bench"
    assert [(entry["backend"], entry["batch"]) for entry in printed["explanations"]] == [("ort-cpu", 1)]


@pytest.mark.slow
def test_the_command_prints_one_explanation_per_back_end(printed_by_others: dict[str, Any]) -> None:
    assert [entry["backend"] for entry in printed_by_others["explanations"]] == list(OTHERS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--batch", "1,8"), "one batch size"),
        (("--out", "x.json"), "--out"),
        (("--gate", "x.toml"), "--gate"),
        (("--backend", "torch-compile"), "does not report the time of each layer"),
        (("--backend", "nonsense"), "unknown back end"),
        (("--pairs", "10", "--cuda-graph"), "CUDA graph"),
    ],
)
def test_an_impossible_request_is_refused_and_nothing_is_written(
    run_folder: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    run = Path(shutil.copytree(run_folder, tmp_path / "narrow", ignore=shutil.ignore_patterns("bench")))
    assert cli.run(["bench", str(run), "--explain", *arguments]) == int(Exit.USAGE)
    assert message in capfd.readouterr().err
    assert not (run / "bench").exists()


def test_anything_but_one_run_folder_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"")
    with pytest.raises(CompressError, match=r"model\.onnx") as caught:
        explain(file)
    assert caught.value.exit is Exit.USAGE
    with pytest.raises(CompressError, match="given: none"):
        explain()
    with pytest.raises(CompressError, match="one run"):
        explain(tmp_path / "a", tmp_path / "b")


def test_a_folder_that_is_not_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompressError) as caught:
        explain(tmp_path)
    assert caught.value.exit is Exit.MISSING


@pytest.mark.parametrize(
    "text", ["{}", '{"schema_version": 1, "kind": "compress-explain"}', '{"schema_version": 9}']
)
def test_a_damaged_or_unknown_version_of_a_result_is_reported_with_its_path(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "explain-ort-cpu.json"
    path.write_text(text)
    with pytest.raises(CompressError, match="explain-ort-cpu") as caught:
        read(path)
    assert caught.value.exit is Exit.MISSING
