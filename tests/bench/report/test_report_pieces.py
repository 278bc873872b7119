"""Parts of a report: number formats, figures, and costs of layers of every kind."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import compress
from compress.bench.protocol.stats import Verdict
from compress.bench.report import figures, svg
from compress.bench.report.facts import LayerRow, LineageRow
from compress.bench.report.layers import _rows_from_modules
from compress.bench.report.pipeline import FILTERS
from compress.cost import dense_costs, layer_costs
from compress.planning import make_plan

LAYER = LayerRow(name="conv", width=8, narrow_width=4, macs=800, narrow_macs=200)


class Branches(nn.Module):
    """A plain, a depthwise, a grouped and a transposed convolution, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 16, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=2, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.transposed = nn.ConvTranspose2d(16, 12, 2, stride=2)
        self.linear = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.depthwise(self.plain(x).relu()).relu()
        x = self.transposed(self.norm(self.grouped(x)).relu()).relu()
        out: torch.Tensor = self.linear(x.mean((2, 3)))
        return out


def test_the_layers_of_every_kind_add_up_to_the_costs_of_the_graph() -> None:
    model, images = Branches().eval(), torch.zeros(2, 3, 8, 8)
    graph = compress.trace(model, images)
    plan = make_plan(graph, keep=0.5)
    result = layer_costs(model, compress.slice_model(model, plan).state_dict(), images)
    assert [layer.name for layer in result] == ["plain", "depthwise", "grouped", "transposed", "linear"]
    assert sum(layer.macs for layer in result) == dense_costs(graph).macs
    assert sum(layer.narrow_macs for layer in result) == plan.narrow.macs


def test_a_forward_pass_gives_the_same_layers_as_the_exported_graph() -> None:
    model, images = Branches().eval(), torch.zeros(2, 3, 8, 8)
    weights = compress.slice_model(model, make_plan(compress.trace(model, images), keep=0.5)).state_dict()
    rows = _rows_from_modules(model, {name: value.shape for name, value in weights.items()}, images)
    assert rows is not None
    fields = [(r.name, r.width, r.narrow_width, r.macs, r.narrow_macs) for r in rows]
    assert fields == [
        (c.name, c.width, c.narrow_width, c.macs, c.narrow_macs) for c in layer_costs(model, weights, images)
    ]


def test_a_forward_pass_that_fails_gives_no_layers() -> None:
    model = nn.Sequential(nn.Linear(4, 2))
    assert _rows_from_modules(model, {}, torch.zeros(2, 4)) is None
    assert not any(module._forward_hooks for module in model.modules())


def test_the_widths_after_a_cut_are_those_of_the_layers() -> None:
    model, images = Branches().eval(), torch.zeros(2, 3, 8, 8)
    narrow = compress.slice_model(model, make_plan(compress.trace(model, images), keep=0.5))
    result = {layer.name: (layer.width, layer.narrow_width) for layer in layer_costs(
        model, narrow.state_dict(), images)}  # fmt: skip
    assert result["transposed"] == (12, narrow.get_submodule("transposed").out_channels)
    assert result["grouped"] == (16, narrow.get_submodule("grouped").out_channels)
    assert result["depthwise"] == (16, narrow.get_submodule("depthwise").out_channels)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("millions", 40_551_040, "40.55 M"),
        ("millions", 269_722, "269.7 k"),
        ("size", 723_061, "723.1 kB"),
        ("ms", 0.2316, "0.232 ms"),
        ("times", 1.3, "1.30×"),
        ("percent", None, "–"),
        ("small", 0.0, "0"),
        ("moment", "2026-11-21T07:59:21+00:00", "2026-11-21 07:59 UTC"),
        ("verdict", Verdict.UNCLEAR, "unclear"),
        ("share", 0.125, "12%"),
        ("rate", 87.5, "87.5"),
        ("rate", 1250.0, "1,250"),
    ],
)
def test_a_filter_formats_a_value_with_few_digits_and_its_unit(name: str, value: object, text: str) -> None:
    assert FILTERS[name](value) == text  # type: ignore[operator]


def test_a_figure_uses_only_the_colors_of_the_page() -> None:
    drawn = figures.draw_layers([LAYER], "one")
    assert drawn is not None
    assert "var(--compact)" in drawn
    assert "#0" not in drawn.replace('"#one-', "").replace("(#one-", "")


def test_layers_have_a_panel_of_times_only_if_times_were_measured() -> None:
    timed = LAYER.model_copy(update={"dense_ms": 0.4, "compact_ms": 0.3})
    assert "time, ms" not in (figures.draw_layers([LAYER], "one") or "")
    assert "time, ms" in (figures.draw_layers([timed], "one") or "")


def test_a_deep_network_shows_the_layers_with_the_most_macs() -> None:
    rows = [LAYER.model_copy(update={"name": f"layer{i}.", "macs": i}) for i in range(100)]
    drawn = figures.draw_layers(rows, "deep") or ""
    assert "layer99." in drawn
    assert "layer40." in drawn
    assert "layer39." not in drawn


def test_gates_are_drawn_only_if_the_method_logged_them() -> None:
    row = {"epoch": 1, "kdfs_closed": 3.0, "kdfs_reopened": 1.0, "kdfs_macs": 0.9}
    assert figures.draw_gates([{"epoch": 1, "train_loss": 1.0}], "dcff", "gates") is None
    assert "reopened" in (figures.draw_gates([row], "kdfs", "gates") or "")


def test_a_loss_that_was_not_finite_leaves_a_gap() -> None:
    rows = [{"epoch": i, "train_loss": loss, "train_top1": 0.1} for i, loss in ((1, 2.0), (2, None))]
    assert figures.draw_training(rows, "training") is not None
    assert math.isnan(figures._scaled(None, 100))


def test_accuracy_over_latency_is_not_drawn_without_a_measurement() -> None:
    row = LineageRow(run="a", stage="narrow", label="compact", made="", top1=0.9)
    assert figures.draw_accuracy_over_latency([row], "ort-cpu", 1, "accuracy", False) is None


def test_markup_in_a_name_is_text_in_a_figure() -> None:
    drawn = figures.draw_layers([LAYER.model_copy(update={"name": "<b>$x_{^"})], "one") or ""
    assert "<b>" not in drawn
    assert "&lt;b&gt;$x_{^" in drawn


def test_the_global_matplotlib_settings_are_restored() -> None:
    from matplotlib import rcParams

    before = dict(rcParams)
    with svg.styled():
        assert rcParams["svg.fonttype"] == "none"
    assert dict(rcParams) == before
