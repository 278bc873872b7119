"""The staircase of a real run, measured on real back ends: table, figure, and what is refused."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from made_tables import curve, entry, table
from PIL import Image

from compress.bench.bench_setup import Choices
from compress.bench.staircase import Staircase, plot, show, staircase
from compress.bench.staircase.measure import summary
from compress.bench.staircase.rounds import MIN_ROUNDS, Rounds
from compress.core.errors import CompressError, Exit
from compress.cost import LatencyTable

QUICK = {"threads": 1, "budget_s": 0.1, "asked": (3, 4, 64), "command": ("compress", "bench")}


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def untouched(untouched_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(untouched_run, tmp_path_factory.mktemp("stairs") / "run"))


@pytest.fixture(scope="module")
def found(untouched: Path, said: list[str]) -> Staircase:
    """Both layers on ONNX Runtime, one after the other."""
    staircase(untouched, "0", tell=said.append, **QUICK)  # type: ignore[arg-type]
    return staircase(untouched, "5", **QUICK)  # type: ignore[arg-type]


def test_the_table_lies_in_the_run_under_its_back_end_and_device(found: Staircase, untouched: Path) -> None:
    assert found.path.parent == untouched / "bench"
    assert found.path.name.startswith("latency-ort-cpu-")
    assert LatencyTable.read(found.path) == found.table


def test_each_layer_has_the_sides_and_widths_that_were_asked_for(found: Staircase) -> None:
    seen = {
        entry.layers: [(c.axis, [p.width for p in c.points]) for c in entry.curves]
        for entry in found.table.entries
    }
    assert seen == {("0",): [("out", [3, 4, 8])], ("5",): [("in", [3, 4, 64, 128])]}


def test_every_number_of_a_curve_is_one_that_was_measured(found: Staircase) -> None:
    for measured in (c for e in found.table.entries for c in e.curves):
        assert measured.rounds >= MIN_ROUNDS
        assert measured.full_ms > 0
        assert measured.clock == "host"
        assert all(p.low <= p.ratio <= p.high for p in measured.points)
        assert measured.floor == pytest.approx(
            max(abs(math.log(measured.points[-1].low)), abs(math.log(measured.points[-1].high)))
        )


def test_the_table_says_what_it_was_measured_with(found: Staircase) -> None:
    own = found.table
    assert (own.backend, own.threads, own.batch, own.device) == ("ort-cpu", 1, 1, own.machine.cpu)
    assert own.session["intra_op_num_threads"] == "1"
    assert "onnxruntime" in own.session
    assert own.versions["torch"]
    assert own.command == ("compress", "bench")


def test_the_work_and_its_time_are_told_beforehand(found: Staircase, said: list[str]) -> None:
    [text] = said
    assert text.startswith("1 layer of 1 shape: 1 curve over 4 networks, about ")


def test_the_figure_is_a_picture_that_grows_with_the_curves(found: Staircase) -> None:
    with Image.open(found.figure) as picture:
        picture.verify()
        assert picture.format == "PNG"
        inches = plot.PANEL_INCHES * 2 + 0.8
        assert picture.size == (round(plot.WIDTH_INCHES * plot.DPI), round(inches * plot.DPI))


def test_nothing_but_table_and_figure_is_left(found: Staircase) -> None:
    assert {path.name for path in found.path.parent.iterdir()} == {found.path.name, found.figure.name}


@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_another_back_end_has_a_table_of_its_own(untouched: Path, backend: str, tmp_path: Path) -> None:
    other = staircase(untouched, "0", backend=backend, out=tmp_path / "t.json", **QUICK)  # type: ignore[arg-type]
    assert other.table.backend == backend
    assert [entry.layers for entry in other.table.entries] == [("0",)]
    assert (tmp_path / f"staircase-{backend}.png").is_file()


def test_a_layer_that_was_measured_later_stands_beside_the_first(found: Staircase) -> None:
    assert [entry.layers for entry in found.table.entries] == [("0",), ("5",)]
    assert [entry.layers for entry in found.measured] == [("5",)]


# --- figures and numbers without a measurement ----------------------------------------------------------


def test_a_figure_has_a_panel_and_a_line_for_every_curve() -> None:
    made = table(entry(), entry(layers=("other",)))
    drawn = plot.figure(made)
    lines = [[line for line in axes.lines if str(line.get_gid()).startswith("curve")] for axes in drawn.axes]
    curves = [c for e in made.entries for c in e.curves]
    assert [len(own) for own in lines] == [1] * len(curves)
    for [line], wanted in zip(lines, curves, strict=True):
        assert list(line.get_xdata()) == [point.width for point in wanted.points]
        assert list(line.get_ydata()) == [pytest.approx(wanted.ms(p.width)) for p in wanted.points]


def test_what_one_channel_more_costs_is_told_for_multiples_of_8_and_16_apart() -> None:
    found = curve(widths=(8, 9, 16, 17, 32, 33, 64), ratio=lambda w: {9: 2, 17: 3, 33: 5}.get(w, 1))
    assert show.one_more(found, 8) == pytest.approx(1.0)
    assert show.one_more(found, 16) == pytest.approx(3.0)
    assert show.one_more(curve(widths=(8, 64)), 8) is None


def test_a_curve_is_the_ratios_of_its_rounds_with_the_noise_of_the_full_width() -> None:
    times = 1e6 * np.array([[1.0, 2.0], [1.0, 2.2], [1.2, 2.0], [1.0, 1.9], [1.0, 2.0]])
    found = summary("out", (8, 16), Rounds(times, np.full((5, 2), 2e6), by_device=True))
    assert [point.ratio for point in found.points] == [pytest.approx(0.5), pytest.approx(1.0)]
    assert (found.full_ms, found.rounds, found.clock) == (2.0, 5, "device")
    assert found.floor == pytest.approx(math.log(2.0 / 1.9))


# --- refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"backend": "ort-cpu,torch"}, "one back end"),
        ({"batch": 0}, "batch of 0"),
        ({"budget_s": -1}, "budget of -1"),
        ({"out": "table.txt"}, "'table.txt'"),
        ({"backend": "ort-cpuu"}, "no back end 'ort-cpuu'"),
        ({"choices": Choices(device="gpu")}, "unknown device 'gpu'"),
        ({"layers": "7"}, "no layer '7'"),
        ({"layers": "0", "asked": (99,)}, "none of the widths 99"),
    ],
)
def test_what_is_not_possible_is_refused_by_its_value(
    run: Path, options: dict[str, object], says: str
) -> None:
    with pytest.raises(CompressError, match=says) as refused:
        staircase(run, **options)  # type: ignore[arg-type]
    assert refused.value.exit == Exit.USAGE
    assert not list(run.glob("bench/*"))


def test_a_file_is_no_run(wide: Path) -> None:
    with pytest.raises(CompressError, match=r"wide.onnx' is a file") as refused:
        staircase(wide)
    assert "run folder" in refused.value.hint


def test_a_curve_that_would_fill_the_memory_is_refused_before_anything_is_loaded(run: Path) -> None:
    with pytest.raises(CompressError, match=r"widths of conv 3x3.* need about"):
        staircase(run, "0", batch=10**8)
