"""Computed weights: weights that a network computes from a parameter alone.

Weight standardization takes statistics over the inputs of each filter, so a filter that loses inputs would
change. The narrow network instead holds, under the parameter's own name, what the dense network computed, cut
like any weight. This is exact if the computation treats every other dimension row by row and maps a row of
zeros to zeros, which the rules decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Graph, Node

from compress.graph.dense_pass import DensePass
from compress.graph.labels import LabeledTensor, LabelRegistry
from compress.graph.operators import operator_name, operator_of
from compress.graph.program import parameter_names, parameter_only
from compress.graph.propagation import apply_rule
from compress.graph.rule_context import static_shape


@dataclass(frozen=True)
class ComputedWeight:
    """A parameter and the value computed from it that can take its place.

    Attributes:
        name: the parameter. source: its node. root: the node of the value, of the same shape.
        inner: the nodes between, in order, `root` last. mixed: dimensions that cannot be cut without it.
    """

    name: str
    source: Node
    root: Node
    inner: tuple[Node, ...]
    mixed: tuple[int, ...]

    def rows(self, labeled: LabeledTensor) -> LabeledTensor:
        """The parameter with the labels of those dimensions only that the computation leaves apart."""
        dense = static_shape(self.source)
        shape = tuple(dense[d] if d in self.mixed else size for d, size in enumerate(labeled.shape))
        fields = tuple(f for f in labeled.fields if f.dims[0] not in self.mixed)
        return replace(labeled, shape=shape, fields=fields)


def find_computed_weights(program: ExportedProgram) -> dict[Node, ComputedWeight]:
    """The computed weights of an exported program that a cut may fold, by their parameter's node."""
    names = parameter_names(program)
    signature = program.graph_signature
    lifted = set(signature.inputs_to_lifted_tensor_constants)
    fixed, constants = (parameter_only(program.graph, given) for given in ({*names, *lifted}, lifted))
    order = {node: i for i, node in enumerate(program.graph.nodes)}
    shared = [names[n.name] for n in fixed if n.name in names]
    out = {}
    for node in fixed:
        name = names.get(node.name)
        is_own = name is not None and node.name in signature.inputs_to_parameters and shared.count(name) == 1
        if is_own and len(static_shape(node)) > 1 and all(user in fixed for user in _readers(node)):
            weight = _computed_weight(node, str(name), fixed, constants, order)
            if weight is not None:
                out[node] = weight
    return out


def _readers(node: Node) -> list[Node]:
    return [user for user in node.users if not operator_of(user).bookkeeping]


def _computed_weight(
    source: Node, name: str, fixed: set[Node], constants: set[Node], order: Mapping[Node, int]
) -> ComputedWeight | None:
    """The first value of the parameter's shape that everything goes through and that mixes a dimension."""
    inner: list[Node] = []
    front = set(_readers(source))
    shape = static_shape(source)
    while front:
        node = min(front, key=lambda n: order[n])
        front.discard(node)
        alone = all(n is source or n in inner or n in constants for n in node.all_input_nodes)
        if node not in fixed or not alone or operator_name(node).endswith("_"):  # the last: writes in place
            return None
        inner.append(node)
        readers = set(_readers(node))
        value = node.meta.get("val")
        if not front and hasattr(value, "shape") and static_shape(node) == shape:
            mixed = _mixed(source, inner)
            if mixed is None or mixed:
                return None if mixed is None else ComputedWeight(name, source, node, tuple(inner), mixed)
        front |= readers
    return None


def _mixed(source: Node, inner: Sequence[Node]) -> tuple[int, ...] | None:
    """Return the dimensions that the computation mixes; None if they cannot be separated from the others.

    Along all other dimensions it works index by index and maps zeros to zeros.
    """
    dims = [d for d, size in enumerate(static_shape(source)) if size > 1]
    if _apart(source, inner, dims):
        return ()
    apart = [d for d in dims if _apart(source, inner, [d])]
    return tuple(d for d in dims if d not in apart) if apart and _apart(source, inner, apart) else None


def _apart(source: Node, inner: Sequence[Node], dims: Sequence[int]) -> bool:
    """Return whether the rules follow the labels of these dimensions through to their own places."""
    facts = DensePass(LabelRegistry(), fixed=frozenset({source, *inner}))
    labeled = facts.parameter("weight", static_shape(source))
    labeled = LabeledTensor(labeled.shape, tuple(f for f in labeled.fields if f.dims[0] in dims))
    values: dict[Node, Any] = {source: labeled}
    for node in inner:
        for other in node.all_input_nodes:
            if other not in values:
                values[other] = LabeledTensor(static_shape(other))
        values[node] = apply_rule(facts, node, values)
    made = values[inner[-1]]
    same = len(labeled.fields) == len(made.fields) and all(
        f.dims == g.dims and torch.equal(f.labels, g.labels)
        for f, g in zip(labeled.fields, made.fields, strict=True)
    )
    return (
        bool(made.zero_when_dropped and same)
        and not facts.protections
        and all((a == b).all() for a, b in facts.edges)
    )


@torch.no_grad()
def compute_weight(program: ExportedProgram, fold: ComputedWeight) -> Tensor:
    """What the program computes for a fold, from its own parameters."""
    tensors: dict[str, Any] = {**program.constants, **program.state_dict}
    lifted = program.graph_signature.inputs_to_lifted_tensor_constants
    values: dict[Node, Any] = {fold.source: tensors[fold.name].detach()}

    def value(node: Node) -> Any:
        if node not in values:
            if node.op == "placeholder":
                values[node] = tensors[lifted[node.name]]
            else:
                args, kwargs = torch.fx.map_arg((node.args, node.kwargs), value)
                target: Any = node.target
                values[node] = target(*args, **kwargs)
        return values[node]

    for node in fold.inner:
        value(node)
    out: Tensor = values[fold.root]
    return out.clone(memory_format=torch.contiguous_format)


def replace_by_parameter(graph: Graph, fold: ComputedWeight) -> None:
    """Let what reads the computed value read the parameter, and drop the computation."""
    fold.root.replace_all_uses_with(fold.source)
    for node in reversed(fold.inner):
        for check in list(node.users):
            graph.erase_node(check)
        graph.erase_node(node)


__all__ = ["ComputedWeight", "compute_weight", "find_computed_weights", "replace_by_parameter"]
