"""The interface that the rules of operators call.

Rules run over the graph twice with the same code. The dense pass (`dense_pass.DensePass`) collects facts:
which labels are tied together, which must stay, and in which sets equally many must stay. The narrow pass
(`narrow_pass.NarrowPass`) follows the network that is left after a cut, with the kept labels only, and checks
that every fact holds in the order in which the narrow network reads its channels.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import Node

from compress.graph.labels import NONE, LabeledTensor, LabelField, LabelRegistry, Movement
from compress.graph.operators import operator_name, operator_of

Labels = NDArray[np.int64]


class ChannelMismatch(Exception):
    """Raised where a narrow network does not compute what the masked dense network does."""

    def __init__(self, node: Node, why: str) -> None:
        super().__init__(f"{node.name}: {why}")
        self.node = node
        self.why = why


@dataclass(frozen=True)
class CountTie:
    """Rows of labels of which equally many must be kept in each."""

    rows: tuple[Labels, ...]
    node: str


@dataclass(frozen=True)
class LayerTerm:
    """Multiply-accumulates of one layer: `factor * kept(inputs) / groups * kept(outputs)`.

    Attributes:
        node: name of the graph node. weight: name of the layer's weight.
        factor: output positions times kernel positions, of one image.
        inputs, outputs: labels of both sides (NONE: never cut). groups: convolution groups; 0 for a
            depthwise convolution, where each output reads one input.
    """

    node: str
    weight: str
    factor: int
    inputs: Labels
    outputs: Labels
    groups: int


def static_shape(node: Node, index: int | None = None) -> tuple[int, ...]:
    """The shape of a node's value at the traced size, symbolic sizes replaced by their hint."""
    value = node.meta["val"]
    if index is not None:
        value = value[index]
    return tuple(int(s) if isinstance(s, int) else int(s.node.hint) for s in value.shape)


class RuleContext(ABC):
    """What a rule can record about a node."""

    registry: LabelRegistry
    constants: Mapping[str, Tensor]
    fixed: Collection[Node]
    """Nodes that depend on parameters only, so that a mask does not make them zero."""

    def labels_along(self, labeled: LabeledTensor, dim: int, node: Node) -> Tensor:
        """Return the labels along one dimension, `[size]`; labels that vary elsewhere are tied or protected.

        For layers that mix all other dimensions: an element's channel must be the same all along them.
        """
        dim %= len(labeled.shape)
        along = labeled.fields_along(dim)
        for other in labeled.fields:
            if dim not in other.dims:
                self.protect(other.labels, f"{operator_name(node)} mixes positions of different channels")
        if not along:
            return torch.full((labeled.shape[dim],), NONE)
        if len(along) > 1:
            for extra in along:
                self.protect(
                    extra.labels, f"{operator_name(node)}: channels of two layers along one dimension"
                )
            return torch.full((labeled.shape[dim],), NONE)
        matrix = along[0].along(dim)
        first = matrix[:, 0].contiguous()
        if matrix.shape[1] > 1:
            self.tie(first[:, None].expand_as(matrix).reshape(-1), matrix.reshape(-1), node)
        return first

    def require_zero(self, labeled: LabeledTensor, node: Node) -> None:
        """Protect every channel that would not be zero when dropped."""
        if not labeled.zero_when_dropped:
            self.protect(
                labeled.labels(),
                f"{operator_name(node)} reads a value that is not zero for a dropped channel",
            )

    def shape(self, node: Node, fields: Sequence[LabelField], index: int | None = None) -> tuple[int, ...]:
        """The node's shape with the labeled dimensions at the size of their fields."""
        shape = list(static_shape(node, index))
        for f in fields:
            for d in f.dims:
                shape[d] = f.labels.shape[d]
        return tuple(shape)

    def protect_all(self, node: Node, operands: Sequence[LabeledTensor], why: str) -> Any:
        """Protect every channel that touches a node, and return its value without labels."""
        for labeled in operands:
            for f in labeled.fields:
                self.protect(f.labels, why)
                if labeled.source and len(labeled.shape) > 1 and f.dims == (0,):
                    self.mark_outputs(f.labels)
        return unlabeled(node)

    def constant(self, node: Any) -> Tensor | None:
        """The value of a node that is a buffer or a constant of the program, or a copy of one; else None."""
        while isinstance(node, Node) and node.op == "call_function" and operator_of(node).copies:
            node = node.args[0]
        return self.constants.get(node.name) if isinstance(node, Node) else None

    @abstractmethod
    def parameter(self, name: str, shape: Sequence[int]) -> LabeledTensor:
        """Return a parameter or buffer with its labels."""

    @abstractmethod
    def tie(self, a: Tensor, b: Tensor, node: Node, source: tuple[str, int] | None = None) -> None:
        """Cut equal positions together; `source` names a parameter dimension that may be reordered."""

    @abstractmethod
    def protect(self, labels: Tensor, why: str) -> None:
        """Never cut these channels."""

    @abstractmethod
    def mark_outputs(self, labels: Tensor) -> None:
        """Mark a layer's outputs: channels that may be dropped."""

    @abstractmethod
    def mark_inputs(self, labels: Tensor) -> None:
        """Mark a layer's input dimension: it is cut, but a mask does not act on it."""

    @abstractmethod
    def equal_counts(self, rows: Sequence[Tensor], node: Node) -> None:
        """Require that equally many channels of each row stay."""

    @abstractmethod
    def tie_groups(self, weight: str, rows: Tensor, node: Node) -> None:
        """Record that a grouped convolution's weight reads `rows` `[groups, inputs of a group]`."""

    @abstractmethod
    def keep_together(self, rows: Tensor, node: Node) -> None:
        """Keep or drop whole rows of `rows` `[rows, channels of a row]`."""

    @abstractmethod
    def add_layer(self, term: LayerTerm) -> None:
        """Record what a layer costs."""

    @abstractmethod
    def move(
        self,
        node: Node,
        operands: Sequence[LabeledTensor],
        move: Movement,
        index: int | None = None,
        spread: Sequence[int] | None = None,
    ) -> LabeledTensor:
        """Carry labels along a data movement of one or several tensors.

        `move` gets one label tensor for each of `operands`. `spread` names the dimensions the movement
        depends on (None: all); labels are expanded along these and the varying ones only, which is much less
        work. `index` is the position in the node's value if that is a list.
        """

    @abstractmethod
    def locate(self, dense: Tensor, here: Tensor, node: Node) -> Tensor:
        """Return the position in the narrow value of each kept label of a dense value, `[kept]`."""

    @abstractmethod
    def require_full_block(self, node: Node, f: LabelField) -> None:
        """Require that a view's labels, which vary in several dimensions, stay a full block."""

    @abstractmethod
    def is_kept(self, labels: Tensor) -> Tensor:
        """Return which labels are kept, bool of the same shape."""

    @abstractmethod
    def kept_along(self, node: Node, dim: int, index: int | None = None) -> Tensor:
        """Return which positions along a dimension of a node's dense value are kept, bool `[size]`."""

    @abstractmethod
    def rewrite(self, node: Node, args: tuple[Any, ...], target: Any = None) -> None:
        """Record the arguments (and the operator) that the narrow network needs at this node."""

    @abstractmethod
    def dense_value(self, node: Node) -> Any:
        """Return the node's value in the dense pass."""

    @abstractmethod
    def computed_weight(
        self, node: Node, whole: LabeledTensor, run: Callable[[RuleContext], Any]
    ) -> LabeledTensor:
        """Return `whole` as the value of a computed weight; `run` gives what its computation leaves of it."""

    @property
    @abstractmethod
    def narrow(self) -> bool:
        """Whether this is the pass over the narrow network."""

    @property
    @abstractmethod
    def free_pads(self) -> bool:
        """Whether the two sides of a zero-padded shortcut may be cut to unrelated channels."""


def unlabeled(node: Node) -> Any:
    """Return a node's value without labels."""
    value = node.meta.get("val")
    if isinstance(value, (list, tuple)):
        return [
            LabeledTensor(static_shape(node, i)) if hasattr(v, "shape") else v for i, v in enumerate(value)
        ]
    return LabeledTensor(static_shape(node)) if hasattr(value, "shape") else value


def numbers(labels: Tensor) -> Labels:
    """Labels as a flat numpy array."""
    array: Labels = labels.reshape(-1).numpy()
    return array


def spread_fields(operands: Sequence[LabeledTensor], spread: Sequence[int] | None) -> list[list[Tensor]]:
    """For each field the label tensors of all operands, expanded as a movement needs them.

    An operand without that field is filled with `NONE`.
    """
    out = []
    for k in range(max((len(labeled.fields) for labeled in operands), default=0)):
        dims = None
        if spread is not None:
            dims = {*spread, *(d for labeled in operands for f in labeled.fields[k : k + 1] for d in f.dims)}
        out.append([_spread(labeled, k, dims) for labeled in operands])
    return out


def _spread(labeled: LabeledTensor, k: int, dims: set[int] | None) -> Tensor:
    f = (
        labeled.fields[k]
        if k < len(labeled.fields)
        else LabelField(torch.full([1] * len(labeled.shape), NONE), ())
    )
    return f.over(labeled.shape, dims)


def positions(shape: Sequence[int], start: int = 2) -> int:
    """The number of positions of one image: the product of all sizes from `start` on."""
    return math.prod(shape[start:])


__all__ = [
    "ChannelMismatch",
    "CountTie",
    "Labels",
    "LayerTerm",
    "RuleContext",
    "numbers",
    "positions",
    "spread_fields",
    "static_shape",
    "unlabeled",
]
