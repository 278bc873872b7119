"""What a rule may say about a node, in the two passes over the graph.

`Dense` collects facts: which labels belong together, which must stay, which sets must keep equally many.
`Narrow` (in `narrow.py`) walks the same rules with the kept labels only and checks that every fact holds,
in the order in which the narrow network will see its channels. A rule is written once and serves both.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import Node

from compress.graph.labels import NONE, Field, Lab, Move, Registry, compact

Labels = NDArray[np.int64]


class Mismatch(Exception):
    """A network cannot be followed at this node."""

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
class MacTerm:
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


class Context(ABC):
    """The verbs of the rules."""

    registry: Registry
    constants: Mapping[str, Tensor]
    fixed: Collection[Node]
    """Nodes that depend on parameters only: a mask does not make what a layer reads of them zero."""

    def vector(self, lab: Lab, dim: int, node: Node) -> Tensor:
        """The labels along one dimension, `[size]`; whatever else varies is tied or kept.

        Used where a layer mixes all other dimensions: an element's channel must then be the same
        wherever it stands along them.
        """
        dim %= len(lab.shape)
        along = lab.fields_along(dim)
        for other in lab.fields:
            if dim not in other.dims:
                self.protect(other.labels, f"{short(node)} mixes positions of different channels")
        if not along:
            return torch.full((lab.shape[dim],), NONE)
        if len(along) > 1:
            for extra in along:
                self.protect(extra.labels, f"{short(node)}: channels of two layers along one dimension")
            return torch.full((lab.shape[dim],), NONE)
        matrix = along[0].along(dim)
        first = matrix[:, 0].contiguous()
        if matrix.shape[1] > 1:
            self.tie(first[:, None].expand_as(matrix).reshape(-1), matrix.reshape(-1), node)
        return first

    def need_clean(self, lab: Lab, node: Node) -> None:
        """Keep every channel that would not be zero when dropped."""
        if not lab.clean:
            self.protect(lab.labels(), f"{short(node)} reads a value that is not zero for a dropped channel")

    def shape(self, node: Node, fields: Sequence[Field], index: int | None = None) -> tuple[int, ...]:
        """The node's shape with the labelled dimensions at the size of their fields."""
        shape = list(static_shape(node, index))
        for f in fields:
            for d in f.dims:
                shape[d] = f.labels.shape[d]
        return tuple(shape)

    def give_up(self, node: Node, labs: Sequence[Lab], why: str) -> Any:
        """Keep every channel that touches a node; its value carries no labels."""
        for lab in labs:
            for f in lab.fields:
                self.protect(f.labels, why)
                if lab.source and len(lab.shape) > 1 and f.dims == (0,):
                    self.produce(f.labels)
        return unlabelled(node)

    def constant(self, node: Any) -> Tensor | None:
        """The value of a node that is a buffer or a constant of the program, or a copy of one; else None."""
        while isinstance(node, Node) and node.op == "call_function" and short(node).rstrip("_") in COPIES:
            node = node.args[0]
        return self.constants.get(node.name) if isinstance(node, Node) else None

    @abstractmethod
    def parameter(self, name: str, shape: Sequence[int]) -> Lab:
        """A parameter or buffer."""

    @abstractmethod
    def tie(self, a: Tensor, b: Tensor, node: Node, source: tuple[str, int] | None = None) -> None:
        """Equal positions are cut together; `source` names a parameter dimension that may be reordered."""

    @abstractmethod
    def protect(self, labels: Tensor, why: str) -> None:
        """These channels stay."""

    @abstractmethod
    def produce(self, labels: Tensor) -> None:
        """These labels are a layer's outputs: the channels a method may drop."""

    @abstractmethod
    def consume(self, labels: Tensor) -> None:
        """These labels are a layer's input dimension: cut, but never set to zero by a mask."""

    @abstractmethod
    def equal_counts(self, rows: Sequence[Tensor], node: Node) -> None:
        """Of each row equally many are kept."""

    @abstractmethod
    def grouped(self, weight: str, rows: Tensor, node: Node) -> None:
        """A grouped convolution's weight reads `rows` `[groups, inputs of a group]`."""

    @abstractmethod
    def together(self, rows: Tensor, node: Node) -> None:
        """The channels of each of `rows` `[rows, channels of a row]` stay or go together, in whole rows."""

    @abstractmethod
    def macs(self, term: MacTerm) -> None:
        """A layer's cost."""

    @abstractmethod
    def move(
        self,
        node: Node,
        labs: Sequence[Lab],
        move: Move,
        index: int | None = None,
        spread: Sequence[int] | None = None,
    ) -> Lab:
        """Carry labels along a data movement of one or several tensors.

        `move` gets one label tensor for each of `labs`. `spread` names the dimensions the movement depends
        on (None: all); labels are expanded along these and the varying ones only, which is much less work.
        `index` is the position in the node's value if that is a list.
        """

    @abstractmethod
    def locate(self, dense: Tensor, here: Tensor, node: Node) -> Tensor:
        """For each kept label of a dense value the position of its channel in the narrow one, `[kept]`."""

    @abstractmethod
    def regular(self, node: Node, f: Field) -> None:
        """The labels of a view in several dimensions must stay a full block."""

    @abstractmethod
    def keeps(self, labels: Tensor) -> Tensor:
        """Which labels are kept, bool of the same shape."""

    @abstractmethod
    def kept_along(self, node: Node, dim: int, index: int | None = None) -> Tensor:
        """Which positions along a dimension of a *dense* node's value are kept, bool `[size]`."""

    @abstractmethod
    def rewrite(self, node: Node, args: tuple[Any, ...], target: Any = None) -> None:
        """In a narrow network this node needs these arguments (and this operator) instead."""

    @abstractmethod
    def dense_value(self, node: Node) -> Any:
        """The node's value in the dense pass."""

    @abstractmethod
    def fold(self, node: Node, whole: Lab, run: Callable[[Context], Any]) -> Lab:
        """The value of a fold's root is `whole`; `run` gives the one that its computation leaves."""

    @property
    @abstractmethod
    def narrow(self) -> bool:
        """Whether this is the pass over the narrow network."""

    @property
    @abstractmethod
    def free_pads(self) -> bool:
        """Whether the two sides of a zero-padded shortcut may be cut to unrelated channels."""


COPIES = frozenset({"lift_fresh_copy", "detach", "clone", "alias", "contiguous", "_to_copy", "to"})


def short(node: Node) -> str:
    """An operator's name without its overload: `conv2d`; of other namespaces than ATen, `mylib.squash`."""
    namespace, _, rest = str(node.target).partition(".")
    return rest.split(".")[0] if namespace == "aten" else f"{namespace}.{rest.split('.')[0]}".rstrip(".")


def unlabelled(node: Node) -> Any:
    """The value of a node whose labels nobody follows."""
    value = node.meta.get("val")
    if isinstance(value, (list, tuple)):
        return [Lab(static_shape(node, i)) if hasattr(v, "shape") else v for i, v in enumerate(value)]
    return Lab(static_shape(node)) if hasattr(value, "shape") else value


def numbers(labels: Tensor) -> Labels:
    """Labels as a flat numpy array."""
    array: Labels = labels.reshape(-1).numpy()
    return array


@dataclass
class Dense(Context):
    """The first pass: collects what is tied, protected and costs what."""

    registry: Registry
    pads: bool = False
    constants: Mapping[str, Tensor] = field(default_factory=dict)
    fixed: Collection[Node] = ()
    edges: list[tuple[Labels, Labels]] = field(default_factory=list)
    kept: list[tuple[Labels, str]] = field(default_factory=list)
    produced: list[Labels] = field(default_factory=list)
    consumed: list[Labels] = field(default_factory=list)
    ties: list[CountTie] = field(default_factory=list)
    moved: dict[tuple[str, int | None], list[tuple[int, ...]]] = field(default_factory=dict)
    reshaped: list[tuple[Node, Field]] = field(default_factory=list)
    groups: dict[str, Labels] = field(default_factory=dict)
    blocks: dict[str, Labels] = field(default_factory=dict)
    terms: list[MacTerm] = field(default_factory=list)
    folded: dict[Node, Any] = field(default_factory=dict)

    def parameter(self, name: str, shape: Sequence[int]) -> Lab:
        return self.registry.parameter(name, shape)

    def tie(self, a: Tensor, b: Tensor, node: Node, source: tuple[str, int] | None = None) -> None:
        x, y = numbers(a), numbers(b)
        both = (x != NONE) & (y != NONE)
        if both.any():
            self.edges.append((x[both], y[both]))
        alone = np.concatenate([x[(y == NONE) & (x != NONE)], y[(x == NONE) & (y != NONE)]])
        if alone.size:
            self.kept.append((alone, f"{short(node)} joins it with data that is never cut"))

    def protect(self, labels: Tensor, why: str) -> None:
        flat = numbers(labels)
        flat = flat[flat != NONE]
        if flat.size:
            self.kept.append((flat, why))

    def produce(self, labels: Tensor) -> None:
        self.produced.append(numbers(labels))

    def consume(self, labels: Tensor) -> None:
        self.consumed.append(numbers(labels))

    def equal_counts(self, rows: Sequence[Tensor], node: Node) -> None:
        self.ties.append(CountTie(tuple(numbers(r) for r in rows), node.name))

    def grouped(self, weight: str, rows: Tensor, node: Node) -> None:
        self.groups[weight] = rows.numpy()

    def together(self, rows: Tensor, node: Node) -> None:
        for row in rows[(rows == NONE).any(1)]:
            self.protect(row, f"{short(node)} joins it with data that is never cut")
        self.blocks[node.name] = rows.numpy()

    def macs(self, term: MacTerm) -> None:
        self.terms.append(term)

    def move(
        self,
        node: Node,
        labs: Sequence[Lab],
        move: Move,
        index: int | None = None,
        spread: Sequence[int] | None = None,
    ) -> Lab:
        fields = [compact(move(tensors)) for tensors in spread_fields(labs, spread)]
        for f in fields:
            if not f.dims:
                self.protect(f.labels, f"{short(node)} takes out a single channel")
        self.moved[node.name, index] = [f.dims for f in fields]
        return Lab(static_shape(node, index), tuple(f for f in fields if f.dims), all(x.clean for x in labs))

    def locate(self, dense: Tensor, here: Tensor, node: Node) -> Tensor:
        return torch.arange(dense.numel())

    def regular(self, node: Node, f: Field) -> None:
        self.reshaped.append((node, f))

    def keeps(self, labels: Tensor) -> Tensor:
        return torch.ones(labels.shape, dtype=torch.bool)

    def kept_along(self, node: Node, dim: int, index: int | None = None) -> Tensor:
        return torch.ones(static_shape(node, index)[dim], dtype=torch.bool)

    def rewrite(self, node: Node, args: tuple[Any, ...], target: Any = None) -> None:
        return None

    def dense_value(self, node: Node) -> Any:
        raise NotImplementedError("only the narrow pass looks back at the dense one")

    def fold(self, node: Node, whole: Lab, run: Callable[[Context], Any]) -> Lab:
        self.folded[node] = run(self)
        return whole

    @property
    def narrow(self) -> bool:
        return False

    @property
    def free_pads(self) -> bool:
        return self.pads


def spread_fields(labs: Sequence[Lab], spread: Sequence[int] | None) -> list[list[Tensor]]:
    """For each field the label tensors of all operands, expanded as a movement needs them.

    An operand without that field is filled with `NONE`.
    """
    out = []
    for k in range(max((len(lab.fields) for lab in labs), default=0)):
        dims = None
        if spread is not None:
            dims = {*spread, *(d for lab in labs for f in lab.fields[k : k + 1] for d in f.dims)}
        out.append([_spread(lab, k, dims) for lab in labs])
    return out


def _spread(lab: Lab, k: int, dims: set[int] | None) -> Tensor:
    f = lab.fields[k] if k < len(lab.fields) else Field(torch.full([1] * len(lab.shape), NONE), ())
    return f.over(lab.shape, dims)


def positions(shape: Sequence[int], start: int = 2) -> int:
    """The number of positions of one image: the product of all sizes from `start` on."""
    return math.prod(shape[start:])


__all__ = [
    "Context",
    "CountTie",
    "Dense",
    "Labels",
    "MacTerm",
    "Mismatch",
    "numbers",
    "positions",
    "short",
    "spread_fields",
    "static_shape",
    "unlabelled",
]
