"""The staircase in the report of a run: figures, better widths, and rendering in a browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browser import look, needs_browser, printed
from made_tables import CONV, curve, entry, table

from compress.bench.report import report
from compress.bench.report.facts import LayerRow
from compress.bench.report.staircase_view import (
    MAX_FIGURES,
    OPEN_FIGURES,
    draw_entry,
    find_wider_layers,
    staircase_view,
)
from compress.bench.staircase.table_file import save_table
from compress.cost import LatencyTable
from compress.cost.latency import Curve

LAYER = LayerRow(name="conv", width=64, narrow_width=33, macs=800, narrow_macs=200)


@pytest.fixture
def stepped(run: Path) -> Path:
    """A run with a table whose names are markup."""
    hostile = entry(CONV, layers=("conv", "<b>$x_{^"))
    save_table(table(hostile), run / "bench" / "latency-ort-cpu-amd-epyc.json")
    return run


def several(count: int) -> LatencyTable:
    return table(
        *(entry(CONV.model_copy(update={"height": i + 1}), layers=(f"conv{i}",)) for i in range(count))
    )


def test_the_report_contains_the_staircase_of_the_run(stepped: Path) -> None:
    result = report(stepped)
    [own] = result.facts.runs[0].staircases
    assert own == LatencyTable.read(stepped / "bench" / "latency-ort-cpu-amd-epyc.json")
    page = result.html.read_text(encoding="utf-8")
    assert "Latency over width of conv" in page
    assert len(re.findall(r'id="r0-stairs0x0-curve-(?:out|in)"', page)) == 2
    assert "<b>" not in page
    text = result.markdown.read_text(encoding="utf-8")
    assert (
        "| conv and 1 more | conv 3x3, 32 to 64 at 8x8 | out | 64 | 2.000 ms | 1.00% | 16, 32, 48, 64 |"
        in text
    )


def test_a_run_without_a_staircase_shows_the_command(run: Path) -> None:
    missing = report(run).facts.runs[0].lacks("staircase")
    assert missing is not None
    assert missing.command == f"compress bench staircase {run}"


def test_a_damaged_table_is_reported_and_is_not_an_error(stepped: Path) -> None:
    path = stepped / "bench" / "latency-ort-cpu-amd-epyc.json"
    path.write_text(path.read_text().replace('"compress-latency"', '"other"'))
    missing = report(stepped).facts.runs[0].lacks("staircase")
    assert missing is not None
    assert "latency-ort-cpu-amd-epyc.json" in missing.why


def test_the_newest_table_comes_first(stepped: Path) -> None:
    newer = table(backend="openvino", created="2026-12-01T08:00:00+00:00")
    save_table(newer, stepped / "bench" / "latency-openvino-amd-epyc.json")
    assert [t.backend for t in report(stepped).facts.runs[0].staircases] == ["openvino", "ort-cpu"]


def test_a_layer_of_the_compact_network_is_advised_the_edge_of_its_step() -> None:
    [result] = find_wider_layers(table(), [LAYER])
    assert (result.layer, result.width, result.best) == ("conv", 33, 48)


def test_a_layer_at_an_edge_or_whole_or_measured_in_noise_is_advised_nothing() -> None:
    assert find_wider_layers(table(), [LAYER.model_copy(update={"narrow_width": 48})]) == ()
    assert find_wider_layers(table(), [LAYER.model_copy(update={"narrow_width": 64})]) == ()
    assert find_wider_layers(table(entry(CONV, curve(floor=0.3))), [LAYER]) == ()


def test_the_layers_that_take_longest_stand_open_and_the_least_have_no_figure() -> None:
    made = several(MAX_FIGURES + 2)
    slow = entry(CONV.model_copy(update={"height": 99}), curve(full_ms=9.0), layers=("slow",))
    result = staircase_view(table(*made.entries, slow), [], "x")
    assert "Latency over width of slow" in result.shown[0]
    assert (len(result.shown), len(result.more), result.left_out) == (
        OPEN_FIGURES,
        MAX_FIGURES - OPEN_FIGURES,
        3,
    )
    assert len(result.curves) == 2 * (MAX_FIGURES + 2) + 1


@pytest.mark.parametrize("compact", [{}, {"conv": 33}])
@pytest.mark.parametrize("curves", [(curve(),), (curve(), curve("in"))])
@pytest.mark.filterwarnings("error::UserWarning")
def test_a_figure_is_laid_out_with_and_without_marks(
    compact: dict[str, int], curves: tuple[Curve, ...]
) -> None:
    assert draw_entry(entry(CONV, *curves), compact, "x").startswith("<svg")


@needs_browser
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_shows_the_stairs_without_an_error_in_its_width(
    stepped: Path, tmp_path: Path, width: int
) -> None:
    save_table(several(OPEN_FIGURES + 2), stepped / "bench" / "latency-openvino-amd-epyc.json")
    seen = look(report(stepped).html, tmp_path, width, 2000)
    assert seen.console == ()
    assert seen.width <= width
    assert seen.smallest > 9


@needs_browser
def test_a_browser_prints_what_is_folded_away_on_the_screen(stepped: Path, tmp_path: Path) -> None:
    before = len(re.findall(rb"/Type\s*/Page\b", printed(report(stepped).html, tmp_path)))
    save_table(several(MAX_FIGURES), stepped / "bench" / "latency-ort-cpu-amd-epyc.json")
    after = len(re.findall(rb"/Type\s*/Page\b", printed(report(stepped).html, tmp_path)))
    assert after > before
