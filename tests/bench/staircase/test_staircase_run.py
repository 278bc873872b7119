"""The measure_staircase of a run, measured on real back ends: table, figure, budget and errors."""

from __future__ import annotations

import math
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from made_tables import CONV, curve, entry, table
from PIL import Image

from compress.bench.backends import RunConfig
from compress.bench.bench_setup import BackendOptions
from compress.bench.staircase import StaircaseResult, measure_staircase, plot
from compress.bench.staircase.render import cost_of_one_more
from compress.bench.staircase.rounds import MAX_ROUNDS, MIN_ROUNDS, RoundTimes
from compress.bench.staircase.worker import CurveSpec, Job, curve_from_rounds, run_job
from compress.core.errors import CompressError, Exit
from compress.cost import LatencyTable

QUICK = {"threads": 1, "budget_s": 0.1, "widths": (3, 4, 64), "command": ("compress", "bench")}


@pytest.fixture(scope="module")
def announced() -> list[str]:
    return []


@pytest.fixture(scope="module")
def untouched(untouched_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(untouched_run, tmp_path_factory.mktemp("stairs") / "run"))


@pytest.fixture(scope="module")
def found(untouched: Path, announced: list[str]) -> StaircaseResult:
    """Both layers on ONNX Runtime, one after the other."""
    measure_staircase(untouched, "0", announce=announced.append, **QUICK)  # type: ignore[arg-type]
    return measure_staircase(untouched, "5", **QUICK)  # type: ignore[arg-type]


def test_the_file_name_of_the_table_has_back_end_and_device(found: StaircaseResult, untouched: Path) -> None:
    assert found.path.parent == untouched / "bench"
    assert found.path.name.startswith("latency-ort-cpu-")
    assert LatencyTable.read(found.path) == found.table


def test_each_layer_has_its_axes_and_the_requested_widths(found: StaircaseResult) -> None:
    seen = {
        entry.layers: [(c.axis, [p.width for p in c.points]) for c in entry.curves]
        for entry in found.table.entries
    }
    assert seen == {("0",): [("out", [3, 4, 8])], ("5",): [("in", [3, 4, 64, 128])]}


def test_the_values_of_a_curve_are_consistent(found: StaircaseResult) -> None:
    for measured in (c for e in found.table.entries for c in e.curves):
        assert measured.rounds >= MIN_ROUNDS
        assert measured.full_ms > 0
        assert measured.clock == "host"
        assert all(p.low <= p.ratio <= p.high for p in measured.points)
        assert measured.floor == pytest.approx(
            max(abs(math.log(measured.points[-1].low)), abs(math.log(measured.points[-1].high)))
        )


def test_the_table_records_the_settings_of_the_measurement(found: StaircaseResult) -> None:
    own = found.table
    assert (own.backend, own.threads, own.batch, own.device) == ("ort-cpu", 1, 1, own.machine.cpu)
    assert own.session["intra_op_num_threads"] == "1"
    assert "onnxruntime" in own.session
    assert own.versions["torch"]
    assert own.command == ("compress", "bench")


def test_the_work_and_its_duration_are_announced(found: StaircaseResult, announced: list[str]) -> None:
    [text] = announced
    assert text.startswith("1 layer of 1 shape: 1 curve over 4 networks, about ")


def test_the_height_of_the_figure_grows_with_the_number_of_curves(found: StaircaseResult) -> None:
    with Image.open(found.figure) as picture:
        picture.verify()
        assert picture.format == "PNG"
        inches = plot.PANEL_INCHES * 2 + 0.8
        assert picture.size == (round(plot.WIDTH_INCHES * plot.DPI), round(inches * plot.DPI))


def test_only_the_table_and_the_figure_are_written(found: StaircaseResult) -> None:
    assert {path.name for path in found.path.parent.iterdir()} == {found.path.name, found.figure.name}


@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_another_back_end_has_its_own_table(untouched: Path, backend: str, tmp_path: Path) -> None:
    other = measure_staircase(untouched, "0", backend=backend, out=tmp_path / "t.json", **QUICK)  # type: ignore[arg-type]
    assert other.table.backend == backend
    assert [entry.layers for entry in other.table.entries] == [("0",)]
    assert (tmp_path / f"staircase-{backend}.png").is_file()


def test_a_layer_that_is_measured_later_is_added_to_the_table(found: StaircaseResult) -> None:
    assert [entry.layers for entry in found.table.entries] == [("0",), ("5",)]
    assert [entry.layers for entry in found.measured] == [("5",)]


def test_a_result_prints_its_best_widths(found: StaircaseResult) -> None:
    text = str(found)
    assert str(found.path) in text
    assert "5, in: best widths " in text
    assert found._repr_png_() == found.figure.read_bytes()


# --- budget ---------------------------------------------------------------------------------------------


def test_curves_that_do_not_fit_before_the_deadline_are_left_out_except_the_first(tmp_path: Path) -> None:
    spec = CurveSpec(shape=CONV, axis="out", widths=(32, 64))
    config = RunConfig(1, 1)
    job = Job(
        backend="ort-cpu",
        config=config,
        curves=(spec, spec.model_copy(update={"axis": "in", "widths": (16, 32)})),
        curve_s=0.0,
        deadline=time.time(),
        folder=tmp_path,
    )
    assert [result.index for result in run_job(job, lambda what, done: None)] == [0]
    later = job.model_copy(update={"deadline": time.time() + 60, "curves": (spec,)})
    [result] = run_job(later, lambda what, done: None)
    assert result.curve.rounds == MAX_ROUNDS


def test_curves_beyond_the_budget_are_reported(
    untouched_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(shutil.copytree(untouched_run, tmp_path / "run"))
    result = measure_staircase(path, "all", **QUICK)  # type: ignore[arg-type]
    assert [entry.layers for entry in result.measured] == [("0",)]
    assert result.not_measured == (("5", "in"),)
    assert "enough for 1 of 2 curves; measure the others with --staircase '5'" in caplog.text
    assert result.to_json()["not_measured"] == [["5", "in"]]


# --- figures and numbers without a measurement ----------------------------------------------------------


def test_a_figure_has_a_panel_and_a_line_for_every_curve() -> None:
    made = table(entry(), entry(layers=("other",)))
    figure = plot.draw_table(made)
    lines = [[line for line in axes.lines if str(line.get_gid()).startswith("curve")] for axes in figure.axes]
    curves = [c for e in made.entries for c in e.curves]
    assert [len(own) for own in lines] == [1] * len(curves)
    for [line], expected in zip(lines, curves, strict=True):
        assert list(line.get_xdata()) == [point.width for point in expected.points]
        assert list(line.get_ydata()) == [pytest.approx(expected.ms(p.width)) for p in expected.points]


def test_the_cost_of_one_more_channel_is_separate_for_multiples_of_8_and_16() -> None:
    found = curve(widths=(8, 9, 16, 17, 32, 33, 64), ratio=lambda w: {9: 2, 17: 3, 33: 5}.get(w, 1))
    assert cost_of_one_more(found, 8) == pytest.approx(1.0)
    assert cost_of_one_more(found, 16) == pytest.approx(3.0)
    assert cost_of_one_more(curve(widths=(8, 64)), 8) is None


def test_a_curve_has_the_ratios_of_its_rounds_and_the_noise_of_the_full_width() -> None:
    times = 1e6 * np.array([[1.0, 2.0], [1.0, 2.2], [1.2, 2.0], [1.0, 1.9], [1.0, 2.0]])
    found = curve_from_rounds("out", (8, 16), RoundTimes(times, np.full((5, 2), 2e6), by_device=True))
    assert [point.ratio for point in found.points] == [pytest.approx(0.5), pytest.approx(1.0)]
    assert (found.full_ms, found.rounds, found.clock) == (2.0, 5, "device")
    assert found.floor == pytest.approx(math.log(2.0 / 1.9))


# --- errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "ort-cpu,torch"}, "one back end"),
        ({"batch": 0}, "at least 1, not 0"),
        ({"budget_s": -1}, "above 0 seconds, not -1"),
        ({"out": "table.txt"}, "'table.txt'"),
        ({"backend": "ort-cpuu"}, "unknown back end 'ort-cpuu'"),
        ({"choices": BackendOptions(device="gpu")}, "unknown device 'gpu'"),
        ({"layers": "7"}, "no layer '7'"),
        ({"layers": "0", "widths": (99,)}, "none of the widths 99"),
    ],
)
def test_an_impossible_option_is_refused_with_its_value(
    run: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(CompressError, match=message) as refused:
        measure_staircase(run, **options)  # type: ignore[arg-type]
    assert refused.value.exit == Exit.USAGE
    assert not list(run.glob("bench/*"))


def test_a_file_is_not_a_run(wide: Path) -> None:
    with pytest.raises(CompressError, match=r"wide.onnx' is a file") as refused:
        measure_staircase(wide)
    assert "run folder" in refused.value.hint


def test_a_curve_that_does_not_fit_into_memory_is_refused_before_loading(run: Path) -> None:
    with pytest.raises(CompressError, match=r"widths of conv 3x3.* need about"):
        measure_staircase(run, "0", batch=10**8)
