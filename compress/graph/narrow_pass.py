"""The narrow pass: follow the network that a cut leaves, and record how each parameter is cut.

The rules see the kept labels only. Every tie must hold in the order in which the narrow network reads its
channels; where a layer's channels arrive in another order than they were trained in (after a shuffle), its
weight is reordered. A network that cannot be followed raises `ChannelMismatch`.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import Node

from compress.graph.dense_pass import DensePass
from compress.graph.labels import NONE, LabeledTensor, LabelField, LabelRegistry, Movement, shrink
from compress.graph.operators import operator_name
from compress.graph.rule_context import (
    ChannelMismatch,
    LayerTerm,
    RuleContext,
    numbers,
    spread_fields,
    static_shape,
)

Index = dict[int, list[Any]]


@dataclass
class NarrowPass(RuleContext):
    """Pass over the network that remains after a cut; the rules see the kept labels only.

    Attributes:
        dense: facts of the pass over the dense network.
        values: its value for each node.
        roots: channel of each label, `[labels]`.
        keep: whether the channel of each label is kept, `[labels]`.
        order: reordered dimensions of parameters, by `(name, dim)`.
        group_inputs: for a grouped convolution's weight, the kept inputs of each group.
        rewrites: new operator and arguments of nodes with baked-in constants.
    """

    registry: LabelRegistry
    dense: DensePass
    values: MutableMapping[Node, Any]
    roots: NDArray[np.int64]
    keep: NDArray[np.bool_]
    constants: Mapping[str, Tensor] = field(default_factory=dict)
    fixed: Collection[Node] = ()
    order: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    group_inputs: dict[str, list[list[int]]] = field(default_factory=dict)
    rewrites: dict[str, tuple[Any, tuple[Any, ...]]] = field(default_factory=dict)

    def parameter(self, name: str, shape: Sequence[int]) -> LabeledTensor:
        dense = self.registry.parameter(name, shape)
        fields = tuple(
            LabelField(
                f.labels.index_select(f.dims[0], self.is_kept(f.labels).reshape(-1).nonzero().reshape(-1)),
                f.dims,
            )
            for f in dense.fields
        )
        sizes = list(shape)
        for f in fields:
            sizes[f.dims[0]] = f.labels.numel()
        return LabeledTensor(tuple(sizes), fields, True, name)

    def tie(self, a: Tensor, b: Tensor, node: Node, source: tuple[str, int] | None = None) -> None:
        x, y = numbers(a), numbers(b)
        if x.size != y.size:
            raise ChannelMismatch(node, f"{x.size} channels meet {y.size}")
        real = (x != NONE) & (y != NONE)
        if source is None or not real.all():
            if (self.roots[x[real]] != self.roots[y[real]]).any():
                raise ChannelMismatch(node, "channels meet in another order")
            return
        start = self.registry.start(*source)
        position = match(self.roots[x], self.roots[y], node)
        order = [int(i) for i in y[position] - start]
        if self.order.setdefault(source, order) != order:
            raise ChannelMismatch(node, f"{source[0]} is needed in two orders")

    def protect(self, labels: Tensor, why: str) -> None:
        return None

    def mark_outputs(self, labels: Tensor) -> None:
        return None

    def mark_inputs(self, labels: Tensor) -> None:
        return None

    def equal_counts(self, rows: Sequence[Tensor], node: Node) -> None:
        return None

    def locate(self, dense: Tensor, here: Tensor, node: Node) -> Tensor:
        expected = self.roots[numbers(dense[self.is_kept(dense)])]
        have = np.where(numbers(here) == NONE, NONE, self.roots[numbers(here)])
        if expected.size == have.size and (expected == have).all():
            return torch.arange(expected.size)
        if np.unique(have).size != have.size:
            raise ChannelMismatch(node, "repeated channels arrive in another order")
        return torch.from_numpy(match(expected, have, node))

    def require_full_block(self, node: Node, f: LabelField) -> None:
        return None

    def add_layer(self, term: LayerTerm) -> None:
        return None

    def tie_groups(self, weight: str, rows: Tensor, node: Node) -> None:
        dense = self.dense.group_inputs[weight]
        blocks = [self._block(numbers(now), was, node) for now, was in zip(rows, dense, strict=True)]
        if self.group_inputs.setdefault(weight, blocks) != blocks:
            raise ChannelMismatch(node, f"{weight} is needed with two selections")

    def keep_together(self, rows: Tensor, node: Node) -> None:
        dense = {tuple(np.sort(self._channels(row))) for row in self.dense.joined[node.name]}
        if any(tuple(np.sort(self._channels(numbers(row)))) not in dense for row in rows):
            raise ChannelMismatch(node, f"{operator_name(node)} would join channels of several groups")

    def _channels(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.where(labels == NONE, NONE, self.roots[labels])

    def _block(self, now: NDArray[np.int64], was: NDArray[np.int64], node: Node) -> list[int]:
        """Which inputs of one group are left, in their new order."""
        kept = np.flatnonzero(numbers(self.is_kept(torch.from_numpy(was))))
        if kept.size == now.size and (self.roots[was[kept]] == self.roots[now]).all():
            return [int(i) for i in kept]
        return [int(i) for i in match(self.roots[now], self.roots[was], node, part=True)]

    def move(
        self,
        node: Node,
        operands: Sequence[LabeledTensor],
        move: Movement,
        index: int | None = None,
        spread: Sequence[int] | None = None,
    ) -> LabeledTensor:
        fields = []
        dims = self.dense.moved_dims.get((node.name, index), [])
        for tensors, along in zip(spread_fields(operands, spread), dims, strict=True):
            if along:
                f = shrink(move(tensors), along)
                if f is None:
                    raise ChannelMismatch(node, "channels land in another place")
                fields.append(f)
        return LabeledTensor(
            self.shape(node, fields, index), tuple(fields), all(x.zero_when_dropped for x in operands)
        )

    def is_kept(self, labels: Tensor) -> Tensor:
        flat = numbers(labels)
        return torch.from_numpy((flat == NONE) | self.keep[flat]).reshape(labels.shape)

    def kept_along(self, node: Node, dim: int, index: int | None = None) -> Tensor:
        labeled: LabeledTensor = self.values[node] if index is None else self.values[node][index]
        kept = torch.ones(static_shape(node, index)[dim], dtype=torch.bool)
        for f in labeled.fields_along(dim):
            kept &= self.is_kept(f.labels).movedim(dim, 0).reshape(kept.numel(), -1).any(1)
        return kept

    def rewrite(self, node: Node, args: tuple[Any, ...], target: Any = None) -> None:
        self.rewrites[node.name] = (target or node.target, args)

    def dense_value(self, node: Node) -> Any:
        return self.values[node]

    def computed_weight(
        self, node: Node, whole: LabeledTensor, run: Callable[[RuleContext], Any]
    ) -> LabeledTensor:
        run(replace(self, values=ChainMap({node: self.dense.computed[node]}, self.values)))
        return whole

    @property
    def narrow(self) -> bool:
        return True

    @property
    def free_pads(self) -> bool:
        return self.dense.pads

    def kept(self) -> dict[str, Index]:
        """The indices that stay, for each dimension that loses some (or is reordered).

        A grouped convolution's input dimension holds one list for each group.
        """
        out: dict[str, Index] = {}
        for name, dim, start, width in self.registry.dims():
            plain = [int(i) for i in np.flatnonzero(self.keep[start : start + width])]
            chosen = self.order.get((name, dim), plain)
            if name in self.group_inputs and dim == 1:
                continue
            if chosen != list(range(width)):
                out.setdefault(name, {})[dim] = chosen
        for name, blocks in self.group_inputs.items():
            width = self.dense.group_inputs[name].shape[1]
            if any(block != list(range(width)) for block in blocks):
                out.setdefault(name, {})[1] = blocks
        return out


def match(
    expected: NDArray[np.int64], have: NDArray[np.int64], node: Node, part: bool = False
) -> NDArray[np.int64]:
    """Return the position in `have` of each expected channel; repeated ones in order of appearance.

    Raises:
        ChannelMismatch: the two contain different channels (with `part`: `expected` contains others).
    """
    if part:
        where = {int(root): i for i, root in reversed(list(enumerate(have)))}
        if len(where) != have.size or any(int(root) not in where for root in expected):
            raise ChannelMismatch(node, f"{operator_name(node)} meets channels of another group")
        return np.array([where[int(root)] for root in expected], dtype=np.int64)
    first, second = np.argsort(expected, kind="stable"), np.argsort(have, kind="stable")
    if (expected[first] != have[second]).any():
        raise ChannelMismatch(node, f"{operator_name(node)} meets other channels than its own")
    out = np.empty(expected.size, dtype=np.int64)
    out[first] = second
    return out
