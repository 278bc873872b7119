"""Shapes of layers, the widths to measure, and a single layer as a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import compress
from compress.bench.backends import RunConfig, get_backend
from compress.bench.staircase.layer_models import LayerModule, image_size, write_onnx
from compress.bench.staircase.layer_runner import load_layer
from compress.bench.staircase.layer_selection import group_by_shape, select_layers
from compress.bench.staircase.rounds import MIN_ROUNDS, RoundTimes, measure_rounds, width_ratios
from compress.bench.staircase.width_grid import width_grid
from compress.core.errors import CompressError
from compress.cost import LayerShape, ShapedLayer, dense_costs, shaped_layers
from compress.export.onnx.session import OnnxClassifier


class Every(nn.Module):
    """A layer of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, padding="same", groups=16)
        self.grouped = nn.Conv2d(16, 24, 1, groups=4)
        self.dilated = nn.Conv2d(24, 20, 3, padding=2, dilation=2)
        self.transposed = nn.ConvTranspose2d(20, 12, 2, stride=2)
        self.linear = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.silu(self.norm(self.stem(x)))
        x = nn.functional.relu6(self.depthwise(x))
        x = nn.functional.hardswish(self.grouped(x))
        x = self.transposed(self.dilated(x).relu())
        out: torch.Tensor = self.linear(x.mean((2, 3)))
        return out


@pytest.fixture(scope="module")
def layers() -> dict[str, ShapedLayer]:
    graph = compress.trace(Every(), torch.zeros(2, 3, 16, 12))
    return {layer.name: layer for layer in shaped_layers(graph)}


def shape_of(layers: dict[str, ShapedLayer], name: str) -> LayerShape:
    result = layers[name].shape
    assert result is not None
    return result


# --- shapes ---------------------------------------------------------------------------------------------


def test_a_layer_is_described_as_it_computes(layers: dict[str, ShapedLayer]) -> None:
    assert {name: str(layer.shape) for name, layer in layers.items()} == {
        "stem": "conv 3x3, stride 2x2, 3 to 16 at 16x12, silu",
        "depthwise": "conv 3x3, depthwise, 16 to 16 at 8x6, relu6",
        "grouped": "conv 1x1, 4 groups, 16 to 24 at 8x6, hardswish",
        "dilated": "conv 3x3, dilation 2x2, 24 to 20 at 8x6, relu",
        "transposed": "None",
        "linear": "linear 12 to 5",
    }


def test_a_folded_norm_leaves_its_bias(layers: dict[str, ShapedLayer]) -> None:
    assert shape_of(layers, "stem").bias


def test_the_axes_are_those_a_cut_can_change(layers: dict[str, ShapedLayer]) -> None:
    assert {name: layer.axes for name, layer in layers.items()} == {
        "stem": ("out",),  # the image's channels stay
        "depthwise": ("both",),
        "grouped": ("out", "in"),
        "dilated": ("out", "in"),
        "transposed": (),
        "linear": ("in",),  # the classes stay
    }


def test_the_shapes_of_a_network_have_its_macs() -> None:
    model = compress.build("mobilenetv2", num_classes=10).eval()
    graph = compress.trace(model, torch.zeros(2, 3, 32, 32))
    assert sum(layer.shape.macs for layer in shaped_layers(graph) if layer.shape) == dense_costs(graph).macs


# --- selection ------------------------------------------------------------------------------------------


def test_all_selects_the_layers_whose_width_can_be_reduced(layers: dict[str, ShapedLayer]) -> None:
    assert [layer.name for layer in select_layers([*layers.values()], "all")] == [
        "stem", "depthwise", "grouped", "dilated", "linear",
    ]  # fmt: skip


def test_layers_are_selected_by_name_and_pattern(layers: dict[str, ShapedLayer]) -> None:
    assert [layer.name for layer in select_layers([*layers.values()], "linear,d*")] == [
        "depthwise", "dilated", "linear",
    ]  # fmt: skip


def test_an_unknown_layer_is_refused_with_the_nearest(layers: dict[str, ShapedLayer]) -> None:
    with pytest.raises(CompressError, match="no layer 'dialated'") as caught:
        select_layers([*layers.values()], "dialated")
    assert "Did you mean dilated" in caught.value.hint


def test_a_layer_with_a_fixed_width_is_refused_with_the_reason(layers: dict[str, ShapedLayer]) -> None:
    with pytest.raises(CompressError, match=r"'transposed' cannot be reduced: .*not measured"):
        select_layers([*layers.values()], "transposed")


def test_layers_of_one_shape_are_measured_once() -> None:
    network = nn.Sequential(*[nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)])
    result = shaped_layers(compress.trace(network, torch.zeros(2, 8, 6, 6)))
    [(_, same)] = group_by_shape([result[1]], result).items()
    assert [(layer.name, layer.axes) for layer in same] == [
        ("0", ("out",)), ("1", ("out", "in")), ("2", ("in",)),
    ]  # fmt: skip


@pytest.mark.parametrize("full", [6, 16, 24, 32, 64, 96, 116, 160, 320, 512, 1280])
def test_the_default_widths_are_few_and_on_both_sides_of_the_steps(full: int) -> None:
    shape = LayerShape(kind="conv", in_channels=8, out_channels=full)
    result = width_grid(shape, "out")
    assert len(result) <= 24
    assert result == tuple(sorted(set(result)))
    assert result[-1] == full
    assert full < 32 or sum(width % 8 == 0 and width + 1 in result for width in result) >= 3


def test_the_widths_of_a_grouped_layer_are_multiples_of_its_groups(layers: dict[str, ShapedLayer]) -> None:
    result = width_grid(shape_of(layers, "grouped"), "in")
    assert result == (4, 8, 12, 16)
    with pytest.raises(CompressError, match="none of the widths 3, 7") as refused:
        width_grid(shape_of(layers, "grouped"), "in", (3, 7))
    assert "multiples of 4" in refused.value.hint


def test_the_full_width_is_always_measured(layers: dict[str, ShapedLayer]) -> None:
    assert width_grid(shape_of(layers, "dilated"), "in", (7, 9, 99)) == (7, 9, 24)


# --- a layer as a network -------------------------------------------------------------------------------

MADE = [
    LayerShape(kind="linear", in_channels=12, out_channels=5),
    LayerShape(kind="linear", in_channels=12, out_channels=6, height=3, width=2, activation="gelu"),
    LayerShape(kind="linear", in_channels=4, out_channels=6, height=3, width=2, bias=False),
    LayerShape(kind="conv", in_channels=3, out_channels=4, height=6, width=5, bias=False),
]


def test_the_onnx_file_of_a_layer_computes_the_same_as_the_module(
    layers: dict[str, ShapedLayer], tmp_path: Path
) -> None:
    shapes = [*(layer.shape for layer in layers.values() if layer.shape is not None), *MADE]
    assert {shape.activation for shape in shapes} >= {"none", "relu", "relu6", "silu", "hardswish", "gelu"}
    for shape in shapes:
        write_onnx(shape, tmp_path / "layer.onnx")
        images = torch.randn(2, *image_size(shape), generator=torch.Generator().manual_seed(1))
        expected = LayerModule(shape).eval()(images).detach().numpy()
        result = OnnxClassifier(tmp_path / "layer.onnx").logits(images.numpy())
        assert result.shape == (2, shape.out_channels)
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5, err_msg=str(shape))


def test_another_width_changes_one_axis_or_both_of_a_depthwise_layer(
    layers: dict[str, ShapedLayer],
) -> None:
    narrow = shape_of(layers, "dilated").at("in", 7)
    assert (narrow.in_channels, narrow.out_channels) == (7, 20)
    both = shape_of(layers, "depthwise").at("both", 5)
    assert (both.in_channels, both.out_channels, both.groups) == (5, 5, 5)
    with pytest.raises(ValueError, match="no axis 'out'"):
        shape_of(layers, "depthwise").at("out", 5)
    with pytest.raises(ValueError, match="do not divide"):
        shape_of(layers, "grouped").at("in", 5)


@pytest.mark.parametrize("name", ["ort-cpu", "openvino", "torch"])
def test_layers_of_every_kind_run_on_a_back_end(
    layers: dict[str, ShapedLayer], name: str, tmp_path: Path
) -> None:
    shapes = [*(layer.shape for layer in layers.values() if layer.shape is not None), *MADE]
    for shape in shapes:
        runner = load_layer(get_backend(name), shape, RunConfig(2, 1), tmp_path)
        assert (runner.run(3) > 0).all()
        assert runner.num_classes == shape.out_channels
        runner.close()
    assert list(tmp_path.iterdir()) == []


# --- rounds ---------------------------------------------------------------------------------------------


class Drifting:
    """A session whose time is in proportion to a width, on a machine that gets slower with every call."""

    calls = 0
    device_ns = None

    def __init__(self, width: int) -> None:
        self.width = width

    def run(self, count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        Drifting.calls += 1
        return np.full(count, round(1e6 * self.width * (1 + Drifting.calls / 500)), dtype=np.int64)


def test_a_machine_that_gets_slower_hardly_changes_the_ratios() -> None:
    sessions = {width: Drifting(width) for width in (10, 20, 30, 40)}
    typical = {width: 1e6 * width for width in sessions}
    result = measure_rounds(sessions, Drifting(40), typical, budget_s=0, rest=False)
    assert result.widths_ns.shape == (MIN_ROUNDS, 4)
    assert result.full_ns.max() > 1.1 * result.full_ns.min()
    np.testing.assert_allclose(width_ratios(result).value, [0.25, 0.5, 0.75, 1.0], rtol=0.03)


class Interrupted:
    """A session that another process interrupts in more than half of its inferences."""

    device_ns = None

    def __init__(self, width: int) -> None:
        self.width = width
        self.rng = np.random.default_rng(width)

    def run(self, count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        waits = np.where(self.rng.random(count) < 0.55, self.rng.exponential(2e7, count), 0)
        return (1e5 * self.width + waits).astype(np.int64)


def test_interruptions_by_other_processes_do_not_change_the_ratios() -> None:
    sessions = {width: Interrupted(width) for width in (2, 10, 40)}
    typical = {width: 1e5 * width for width in sessions}
    result = width_ratios(measure_rounds(sessions, Interrupted(40), typical, budget_s=0, rest=False))
    np.testing.assert_allclose(result.value, [0.05, 0.25, 1.0], rtol=1e-6)


def test_an_interval_contains_its_ratio_and_is_wider_if_the_rounds_differ() -> None:
    rng = np.random.default_rng(0)
    steady = 1e6 * np.array([[0.5, 1.0]]) * np.exp(0.001 * rng.standard_normal((20, 2)))
    wild = 1e6 * np.array([[0.5, 1.0]]) * np.exp(0.1 * rng.standard_normal((20, 2)))
    near, far = (width_ratios(RoundTimes(times, times[:, 1:], by_device=False)) for times in (steady, wild))
    for result in (near, far):
        assert (result.low <= result.value).all()
        assert (result.value <= result.high).all()
    assert far.high[0] - far.low[0] > 10 * (near.high[0] - near.low[0])
