"""The dense pass: collects which channels are tied, which are protected, and what each layer costs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from compress.graph.labels import NONE, LabeledTensor, LabelField, LabelRegistry, Movement, compact
from compress.graph.operators import operator_name
from compress.graph.rule_context import (
    CountTie,
    Labels,
    LayerTerm,
    RuleContext,
    numbers,
    spread_fields,
    static_shape,
)


@dataclass
class DensePass(RuleContext):
    """The facts of a network, collected by the rules.

    Attributes:
        registry: gives out the labels. pads: whether the two sides of a zero-padded shortcut may keep
            unrelated channels.
        constants: value of each placeholder that is a buffer or a constant. fixed: nodes that depend on
            parameters alone.
        edges: pairs of label arrays that are cut together, position by position.
        protections: labels that must stay, each with the reason.
        output_labels, input_labels: labels that layers make, and labels of the dimensions by which they read.
        ties: sets of labels of which equally many must stay.
        moved_dims: for each data movement, `(node, index)`, the dimensions along which its labels vary.
        reshaped: views whose labels vary along several dimensions, which must stay a full block.
        group_inputs: labels that each group of a grouped convolution reads, `[groups, inputs]`, by weight.
        joined: rows of labels that stay or go together, by node.
        terms: the layers, with what they cost. computed: values inside computed weights, by their result's
            node.
    """

    registry: LabelRegistry
    pads: bool = False
    constants: Mapping[str, Tensor] = field(default_factory=dict)
    fixed: Collection[Node] = ()
    edges: list[tuple[Labels, Labels]] = field(default_factory=list)
    protections: list[tuple[Labels, str]] = field(default_factory=list)
    output_labels: list[Labels] = field(default_factory=list)
    input_labels: list[Labels] = field(default_factory=list)
    ties: list[CountTie] = field(default_factory=list)
    moved_dims: dict[tuple[str, int | None], list[tuple[int, ...]]] = field(default_factory=dict)
    reshaped: list[tuple[Node, LabelField]] = field(default_factory=list)
    group_inputs: dict[str, Labels] = field(default_factory=dict)
    joined: dict[str, Labels] = field(default_factory=dict)
    terms: list[LayerTerm] = field(default_factory=list)
    computed: dict[Node, Any] = field(default_factory=dict)

    def parameter(self, name: str, shape: Sequence[int]) -> LabeledTensor:
        return self.registry.parameter(name, shape)

    def tie(self, a: Tensor, b: Tensor, node: Node, source: tuple[str, int] | None = None) -> None:
        x, y = numbers(a), numbers(b)
        both = (x != NONE) & (y != NONE)
        if both.any():
            self.edges.append((x[both], y[both]))
        alone = np.concatenate([x[(y == NONE) & (x != NONE)], y[(x == NONE) & (y != NONE)]])
        if alone.size:
            self.protections.append((alone, f"{operator_name(node)} joins it with data that is never cut"))

    def protect(self, labels: Tensor, why: str) -> None:
        flat = numbers(labels)
        flat = flat[flat != NONE]
        if flat.size:
            self.protections.append((flat, why))

    def mark_outputs(self, labels: Tensor) -> None:
        self.output_labels.append(numbers(labels))

    def mark_inputs(self, labels: Tensor) -> None:
        self.input_labels.append(numbers(labels))

    def equal_counts(self, rows: Sequence[Tensor], node: Node) -> None:
        self.ties.append(CountTie(tuple(numbers(r) for r in rows), node.name))

    def tie_groups(self, weight: str, rows: Tensor, node: Node) -> None:
        self.group_inputs[weight] = rows.numpy()

    def keep_together(self, rows: Tensor, node: Node) -> None:
        for row in rows[(rows == NONE).any(1)]:
            self.protect(row, f"{operator_name(node)} joins it with data that is never cut")
        self.joined[node.name] = rows.numpy()

    def add_layer(self, term: LayerTerm) -> None:
        self.terms.append(term)

    def move(
        self,
        node: Node,
        operands: Sequence[LabeledTensor],
        move: Movement,
        index: int | None = None,
        spread: Sequence[int] | None = None,
    ) -> LabeledTensor:
        fields = [compact(move(tensors)) for tensors in spread_fields(operands, spread)]
        for f in fields:
            if not f.dims:
                self.protect(f.labels, f"{operator_name(node)} takes out a single channel")
        self.moved_dims[node.name, index] = [f.dims for f in fields]
        return LabeledTensor(
            static_shape(node, index),
            tuple(f for f in fields if f.dims),
            all(x.zero_when_dropped for x in operands),
        )

    def locate(self, dense: Tensor, here: Tensor, node: Node) -> Tensor:
        return torch.arange(dense.numel())

    def require_full_block(self, node: Node, f: LabelField) -> None:
        self.reshaped.append((node, f))

    def is_kept(self, labels: Tensor) -> Tensor:
        return torch.ones(labels.shape, dtype=torch.bool)

    def kept_along(self, node: Node, dim: int, index: int | None = None) -> Tensor:
        return torch.ones(static_shape(node, index)[dim], dtype=torch.bool)

    def rewrite(self, node: Node, args: tuple[Any, ...], target: Any = None) -> None:
        return None

    def dense_value(self, node: Node) -> Any:
        raise NotImplementedError("only the narrow pass looks back at the dense one")

    def computed_weight(
        self, node: Node, whole: LabeledTensor, run: Callable[[RuleContext], Any]
    ) -> LabeledTensor:
        self.computed[node] = run(self)
        return whole

    @property
    def narrow(self) -> bool:
        return False

    @property
    def free_pads(self) -> bool:
        return self.pads


__all__ = ["DensePass"]
