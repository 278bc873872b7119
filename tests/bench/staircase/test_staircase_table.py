"""A latency table: reading and writing, interpolation between widths, and the edges of the steps."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from made_tables import CONV, blocks, curve, entry, table
from pydantic import ValidationError

from compress.bench.staircase.table_file import merge_with_file, save_table
from compress.core.errors import CompressError, Exit
from compress.cost import LatencyTable, LayerShape

DEPTHWISE = LayerShape(kind="conv", in_channels=16, out_channels=16, groups=16, kernel=(3, 3))

# --- files ----------------------------------------------------------------------------------------------


def test_a_table_is_read_back_unchanged(tmp_path: Path) -> None:
    made = table()
    save_table(made, tmp_path / "t.json")
    assert LatencyTable.read(tmp_path / "t.json") == made


def test_a_missing_table_is_exit_code_3_with_the_command_that_measures_it(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="no latency table") as caught:
        LatencyTable.read(tmp_path / "t.json")
    assert caught.value.exit == Exit.MISSING
    assert "--staircase all" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema_version": 99}, "schema version 99"),
        ({"kind": "compress-bench"}, "'compress-bench'"),
        ({"entries": [{"shape": {"kind": "pool"}}]}, "damaged: entries.0"),
    ],
)
def test_another_version_or_kind_or_damage_is_reported(
    tmp_path: Path, change: dict[str, object], says: str
) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps(table().model_dump(mode="json") | change))
    with pytest.raises(CompressError, match=says):
        LatencyTable.read(path)


def test_a_second_measurement_keeps_the_layers_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    save_table(table(entry(CONV)), path)
    other = entry(DEPTHWISE, curve("both", (8, 16)), layers=("depthwise",))
    assert {e.layers for e in merge_with_file(table(other), path).entries} == {("conv",), ("depthwise",)}


def test_a_second_measurement_replaces_only_its_own_curves(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    save_table(table(entry()), path)
    [result] = merge_with_file(table(entry(CONV, curve(full_ms=3.0))), path).entries
    assert [(c.axis, c.full_ms) for c in result.curves] == [("out", 3.0), ("in", 2.0)]


def test_a_table_with_other_settings_is_replaced_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "t.json"
    save_table(table(entry(), threads=2), path)
    with caplog.at_level(logging.WARNING):
        now = table(entry(DEPTHWISE, curve("both", (8, 16))))
        assert merge_with_file(now, path) == now
    assert "another threads" in caplog.text


# --- between the widths ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "ms"), [(64, 2.0), (16, 0.5), (17, 1.0), (40, 1.5), (12, 0.5), (4, 0.5)])
def test_a_width_is_looked_up_or_interpolated_from_its_neighbors(width: int, ms: float) -> None:
    assert table().latency(CONV, 32, width) == pytest.approx(ms)


def test_between_two_measured_widths_the_time_is_interpolated_linearly() -> None:
    result = curve(widths=(32, 64), ratio=lambda width: width / 64)
    assert result.ratio(40) == pytest.approx(40 / 64)


def test_the_ratios_of_both_sides_multiply() -> None:
    assert table().latency(CONV, 16, 32) == pytest.approx(2.0 * 0.5 * 0.5)


def test_a_depthwise_layer_has_one_width() -> None:
    result = table(entry(DEPTHWISE, curve("both", (8, 16), lambda width: width / 16)))
    assert result.latency(DEPTHWISE, 8, 8) == pytest.approx(1.0)
    assert result.best_width(DEPTHWISE, 8) == 8


def test_an_axis_that_was_not_measured_must_be_at_full_width() -> None:
    result = table(entry(CONV, curve("out")))
    assert result.latency(CONV, 32, 16) == pytest.approx(0.5)
    with pytest.raises(CompressError, match="not along 'in'"):
        result.latency(CONV, 16, 16)


def test_a_shape_that_was_not_measured_is_an_error() -> None:
    with pytest.raises(CompressError, match="no layer like conv 3x3, depthwise"):
        table().latency(DEPTHWISE, 8, 8)


@pytest.mark.parametrize("width", [0, 65])
def test_an_impossible_width_is_refused(width: int) -> None:
    with pytest.raises(ValueError, match="not between 1 and 64"):
        curve().ratio(width)


def test_the_widths_of_a_curve_must_ascend() -> None:
    with pytest.raises(ValidationError, match="must ascend"):
        curve(widths=(32, 16))


# --- steps ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "best"), [(33, 48), (34, 48), (32, 32), (17, 32), (63, 64), (5, 16)])
def test_the_best_width_is_the_right_edge_of_the_step(width: int, best: int) -> None:
    assert table().best_width(CONV, width) == best


def test_the_edges_are_the_best_widths() -> None:
    assert curve().edges == (16, 32, 48, 64)


def test_a_width_that_is_slower_than_the_full_width_is_never_best() -> None:
    result = curve(ratio=lambda width: 1.4 if width == 33 else blocks(width))
    assert result.best_width(33) == 64


def test_a_difference_within_the_noise_makes_no_step() -> None:
    assert curve(ratio=lambda width: 0.9 + 0.1 * width / 64, floor=0.2).edges == (64,)


def test_on_a_steady_slope_the_best_width_is_within_the_tolerance() -> None:
    result = curve(widths=range(1, 65), ratio=lambda width: 1.01 ** (width - 64))
    assert result.best_width(10) in (11, 12)
