"""The shape of each layer as it computes: what its latency depends on, besides the back end."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from torch.fx import Node

from compress.core.spec import Record
from compress.graph.groups import layer_name
from compress.graph.labels import NONE
from compress.graph.operators import operator_name, operator_of
from compress.graph.rule_context import Labels, LayerTerm, static_shape

if TYPE_CHECKING:
    from compress.graph import ChannelGraph

Axis = Literal["out", "in", "both"]
"""Which side's width varies; ``both`` of a depthwise convolution, where one is the other."""

Activation = Literal["none", "relu", "relu6", "silu", "hardswish", "gelu"]


class LayerShape(Record):
    """A convolution or linear layer with its activation. Two layers of one shape take the same time.

    Attributes:
        kind: of a linear layer the input is `[batch, height, width, in_channels]`: its positions.
        in_channels, out_channels: the widths of both sides, dense.
        height, width: of the input.
        kernel, stride, padding, dilation: vertical and horizontal; 1, 1, 0 and 1 of a linear layer.
        groups: of a convolution.
        bias: whether one is added, as one is where a norm is folded into the layer.
        activation: what follows it directly or after a norm.
    """

    kind: Literal["conv", "linear"]
    in_channels: int
    out_channels: int
    height: int = 1
    width: int = 1
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    bias: bool = True
    activation: Activation = "none"

    @property
    def depthwise(self) -> bool:
        """Whether each output reads one input, so that both sides have one width."""
        return self.groups > 1 and self.groups == self.in_channels

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        positions = self.height * self.width
        if self.kind == "conv":
            positions = math.prod(self.output_size)
        return positions * math.prod(self.kernel) * self.out_channels * self.in_channels // self.groups

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        high, wide = (
            (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for size, pad, dilation, kernel, stride in zip(
                (self.height, self.width), self.padding, self.dilation, self.kernel, self.stride, strict=True
            )
        )
        return high, wide

    def full(self, axis: Axis) -> int:
        """The dense width along an axis."""
        return self.out_channels if axis == "out" else self.in_channels

    def at(self, axis: Axis, width: int) -> LayerShape:
        """The layer with another width along an axis.

        Raises:
            ValueError: a width that the groups do not divide, or an axis this layer has not.
        """
        if self.depthwise != (axis == "both"):
            raise ValueError(f"a layer of {self.groups} groups has no axis {axis!r}")
        if axis == "both":
            outputs = width * (self.out_channels // self.in_channels)
            return self.model_copy(update={"in_channels": width, "groups": width, "out_channels": outputs})
        if width < 1 or width % self.groups:
            raise ValueError(f"{width} channels do not divide into {self.groups} groups")
        return self.model_copy(update={f"{axis}_channels": width})

    def __str__(self) -> str:
        sides = f"{self.in_channels} to {self.out_channels}"
        if self.kind == "linear":
            where = "" if self.height * self.width == 1 else f" at {self.height}x{self.width} positions"
            return f"linear {sides}{where}{self._after}"
        kind = "depthwise" if self.depthwise else f"{self.groups} groups" if self.groups > 1 else ""
        parts = [
            f"conv {_by(self.kernel)}",
            kind,
            f"stride {_by(self.stride)}" if self.stride != (1, 1) else "",
            f"dilation {_by(self.dilation)}" if self.dilation != (1, 1) else "",
            f"{sides} at {self.height}x{self.width}",
        ]
        return ", ".join(part for part in parts if part) + self._after

    @property
    def _after(self) -> str:
        return "" if self.activation == "none" else f", {self.activation}"


@dataclass(frozen=True)
class ShapedLayer:
    """A layer of a network, and which of its widths a cut can change.

    Attributes:
        name: its path in the network, such as ``layer1.0.conv1``.
        shape: None for a layer of a kind that has none here.
        axes: the sides whose channels can be cut; empty for a layer without one.
        why: the reason where `shape` or `axes` is empty.
    """

    name: str
    shape: LayerShape | None
    axes: tuple[Axis, ...]
    why: str = ""


def shaped_layers(graph: ChannelGraph) -> list[ShapedLayer]:
    """Return the layers of a traced network in the order in which they compute, each once."""
    nodes = {node.name: node for node in graph.program.graph.nodes}
    layers: dict[str, ShapedLayer] = {}
    for term in graph.facts.terms:
        name = layer_name(term.weight)
        if name not in layers:
            layers[name] = _layer(graph, term, name, nodes[term.node])
    return list(layers.values())


def _layer(graph: ChannelGraph, term: LayerTerm, name: str, node: Node) -> ShapedLayer:
    try:
        shape = (
            _linear(node)
            if operator_of(node).layer == "linear" and operator_name(node) == "linear"
            else _conv(node)
        )
    except _Other as error:
        return ShapedLayer(name, None, (), str(error))
    sides: dict[Axis, Labels] = {"out": term.outputs, "in": term.inputs}
    if shape.depthwise:
        sides = {"both": term.inputs}
    axes = tuple(axis for axis, labels in sides.items() if _cut(graph, labels))
    return ShapedLayer(name, shape, axes, "" if axes else _why(graph, name, sides))


def _cut(graph: ChannelGraph, labels: Labels) -> bool:
    """Return whether any of the channels may be dropped."""
    channels = graph.channels.at(labels)
    return bool(graph.channels.removable[channels[channels != NONE]].any())


def _why(graph: ChannelGraph, name: str, sides: dict[Axis, Labels]) -> str:
    reasons = []
    for axis, labels in sides.items():
        channels = graph.channels.at(labels)
        known = (graph.channels.reasons.get(int(c)) for c in channels[channels != NONE])
        side = {"out": "outputs", "in": "inputs", "both": "channels"}[axis]
        reason = next((why for why in known if why), "they are no layer's outputs")
        reasons.append(f"its {side} are never cut: {reason}")
    return "; ".join(reasons)


class _Other(Exception):
    """A layer of a kind that has no shape here."""


def _linear(node: Node) -> LayerShape:
    x, weight = static_shape(_node(node.args[0])), static_shape(_node(node.args[1]))
    if len(x) not in (2, 3, 4):
        raise _Other(f"a linear layer over {len(x) - 1} dimensions is not measured")
    high, wide = (1, 1, *x[1:-1])[-2:]
    shape = LayerShape(
        kind="linear",
        in_channels=weight[1],
        out_channels=weight[0],
        height=high,
        width=wide,
        bias=_argument(node, 2, "bias") is not None,
    )
    return shape.model_copy(update={"activation": _after(node)[0]})


def _conv(node: Node) -> LayerShape:
    kind = operator_name(node)
    x, weight = static_shape(_node(node.args[0])), static_shape(_node(node.args[1]))
    if kind not in ("conv2d", "convolution") or len(x) != 4:
        raise _Other(f"{kind} is not measured, only two-dimensional convolutions and linear layers are")
    if kind == "convolution" and node.args[6]:
        raise _Other("a transposed convolution is not measured")
    kernel = (weight[2], weight[3])
    dilation = _two(_argument(node, 5, "dilation") or 1)
    activation, normed = _after(node)
    return LayerShape(
        kind="conv",
        in_channels=x[1],
        out_channels=weight[0],
        height=x[2],
        width=x[3],
        kernel=kernel,
        stride=_two(_argument(node, 3, "stride") or 1),
        padding=_padding(_argument(node, 4, "padding") or 0, kernel, dilation),
        dilation=dilation,
        groups=int(_argument(node, 8 if kind == "convolution" else 6, "groups") or 1),
        bias=normed or _argument(node, 2, "bias") is not None,
        activation=activation,
    )


def _padding(value: Any, kernel: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int]:
    if not isinstance(value, str):
        return _two(value)
    if value == "valid":
        return 0, 0
    around = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    if any(size % 2 for size in around):
        raise _Other("a convolution padded by another number on either side is not measured")
    return around[0] // 2, around[1] // 2


def _after(node: Node) -> tuple[Activation, bool]:
    """Return the activation that is the only reader of a layer's output, and whether a norm is in between."""
    normed = False
    while len(node.users) == 1:
        node = next(iter(node.users))
        row = operator_of(node)
        if row.norm == "folded" or node.target is operator.getitem:
            normed = True
        elif operator_name(node).rstrip("_") == "hardtanh" and tuple(node.args[1:]) == (0.0, 6.0):
            return "relu6", normed
        else:
            return cast(Activation, row.layer_activation or "none"), normed
    return "none", normed


def _argument(node: Node, at: int, name: str) -> Any:
    return node.args[at] if len(node.args) > at else node.kwargs.get(name)


def _node(value: Any) -> Node:
    assert isinstance(value, Node)
    return value


def _two(value: int | Sequence[int]) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return (value[0], value[-1])


def _by(pair: tuple[int, int]) -> str:
    return f"{pair[0]}x{pair[1]}"
