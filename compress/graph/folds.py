"""Computed weights: where a network computes a weight from a parameter alone, its value can stand for it.

Weight standardisation takes statistics over the inputs of each filter, so a filter that loses inputs would
become another one. The narrow network instead holds, under the parameter's own name, what the dense network
computed, cut like any weight. This is exact if the computation treats every other dimension row by row and
makes zero of a row of zeros, which is asked of the rules themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Graph, Node

from compress.graph.context import Dense, short, static_shape
from compress.graph.labels import Lab, Registry

RANDOM = frozenset({"bernoulli", "rand_like", "randn_like", "dropout", "normal", "native_dropout"})
VIEWS = frozenset({"view", "reshape", "reshape_as", "view_as"})
CHECKS = frozenset({"_assert_tensor_metadata", "sym_size"})


@dataclass(frozen=True)
class Fold:
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

    def rows(self, lab: Lab) -> Lab:
        """The parameter with the labels of those dimensions only that the computation leaves apart."""
        dense = static_shape(self.source)
        shape = tuple(dense[d] if d in self.mixed else size for d, size in enumerate(lab.shape))
        fields = tuple(f for f in lab.fields if f.dims[0] not in self.mixed)
        return replace(lab, shape=shape, fields=fields)


def find_folds(program: ExportedProgram, names: Mapping[str, str]) -> dict[Node, Fold]:
    """The folds of a program, by the parameter's node; `names` maps placeholders to parameters."""
    signature = program.graph_signature
    lifted = set(signature.inputs_to_lifted_tensor_constants)
    fixed, constants = (parameter_only(program.graph, given) for given in ({*names, *lifted}, lifted))
    order = {node: i for i, node in enumerate(program.graph.nodes)}
    shared = [names[n.name] for n in fixed if n.name in names]
    out = {}
    for node in fixed:
        name = names.get(node.name)
        wanted = name is not None and node.name in signature.inputs_to_parameters and shared.count(name) == 1
        if wanted and len(static_shape(node)) > 1 and all(user in fixed for user in _readers(node)):
            fold = _fold(node, str(name), fixed, constants, order)
            if fold is not None:
                out[node] = fold
    return out


def parameter_only(graph: Graph, given: set[str]) -> set[Node]:
    """The nodes that depend on nothing but placeholders of these names."""
    out: set[Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" and node.name in given and hasattr(node.meta.get("val"), "shape"):
            out.add(node)
        elif node.op == "call_function" and node.all_input_nodes and out.issuperset(node.all_input_nodes):
            out |= {node} if short(node) not in RANDOM else set()
    return out


def _readers(node: Node) -> list[Node]:
    return [user for user in node.users if short(user) not in CHECKS]


def _fold(
    source: Node, name: str, fixed: set[Node], constants: set[Node], order: Mapping[Node, int]
) -> Fold | None:
    """The first value of the parameter's shape that everything goes through and that mixes a dimension."""
    inner: list[Node] = []
    front = set(_readers(source))
    shape = static_shape(source)
    while front:
        node = min(front, key=lambda n: order[n])
        front.discard(node)
        alone = all(n is source or n in inner or n in constants for n in node.all_input_nodes)
        if node not in fixed or not alone or short(node).endswith("_"):  # the last: writes in place
            return None
        inner.append(node)
        readers = set(_readers(node))
        value = node.meta.get("val")
        if not front and hasattr(value, "shape") and static_shape(node) == shape:
            mixed = _mixed(source, inner)
            if mixed is None or mixed:
                return None if mixed is None else Fold(name, source, node, tuple(inner), mixed)
        front |= readers
    return None


def _mixed(source: Node, inner: Sequence[Node]) -> tuple[int, ...] | None:
    """The dimensions that the computation mixes; None if it can also not be told from the others.

    What it does not mix it treats index by index, and makes zero of zeros.
    """
    dims = [d for d, size in enumerate(static_shape(source)) if size > 1]
    if _apart(source, inner, dims):
        return ()
    apart = [d for d in dims if _apart(source, inner, [d])]
    return tuple(d for d in dims if d not in apart) if apart and _apart(source, inner, apart) else None


def _apart(source: Node, inner: Sequence[Node], dims: Sequence[int]) -> bool:
    """Whether the rules follow the labels of these dimensions through to their own places."""
    from compress.graph.trace import call

    facts = Dense(Registry(), fixed=frozenset({source, *inner}))
    lab = facts.parameter("weight", static_shape(source))
    lab = Lab(lab.shape, tuple(f for f in lab.fields if f.dims[0] in dims))
    values: dict[Node, Any] = {source: lab}
    for node in inner:
        for other in node.all_input_nodes:
            if other not in values:
                values[other] = Lab(static_shape(other))
        values[node] = call(facts, node, values)
    made = values[inner[-1]]
    same = len(lab.fields) == len(made.fields) and all(
        f.dims == g.dims and torch.equal(f.labels, g.labels)
        for f, g in zip(lab.fields, made.fields, strict=True)
    )
    return bool(made.clean and same) and not facts.kept and all((a == b).all() for a, b in facts.edges)


@torch.no_grad()
def computed(program: ExportedProgram, fold: Fold) -> Tensor:
    """What the program computes for a fold, from its own parameters."""
    held: dict[str, Any] = {**program.constants, **program.state_dict}
    lifted = program.graph_signature.inputs_to_lifted_tensor_constants
    values: dict[Node, Any] = {fold.source: held[fold.name].detach()}

    def value(node: Node) -> Any:
        if node not in values:
            if node.op == "placeholder":
                values[node] = held[lifted[node.name]]
            else:
                args, kwargs = torch.fx.map_arg((node.args, node.kwargs), value)
                target: Any = node.target
                values[node] = target(*args, **kwargs)
        return values[node]

    for node in fold.inner:
        value(node)
    out: Tensor = values[fold.root]
    return out.clone(memory_format=torch.contiguous_format)


def put(graph: Graph, fold: Fold) -> None:
    """Let what reads the computed value read the parameter, and drop the computation."""
    fold.root.replace_all_uses_with(fold.source)
    for node in reversed(fold.inner):
        for check in list(node.users):
            graph.erase_node(check)
        graph.erase_node(node)


def split_gains(program: ExportedProgram) -> None:
    """Take the gain of a weight standardisation by batch norm out of it: multiply afterwards.

    `batch_norm(w.reshape(1, rows, -1), weight=gain).reshape_as(w)` becomes the same without a gain, times
    `gain.view(rows, 1, ...)`; the gain then stays a parameter of its own when the rest is folded.
    """
    graph, signature = program.graph, program.graph_signature
    parameters = {*signature.inputs_to_parameters, *signature.inputs_to_buffers}
    fixed = parameter_only(graph, {*parameters, *signature.inputs_to_lifted_tensor_constants})
    for node in list(graph.nodes):
        if node not in fixed or node.op != "call_function" or short(node) != "batch_norm":
            continue
        gain, rest = node.args[1], node.args[2:5]
        after = next(iter(node.users), None)
        if not isinstance(gain, Node) or any(a is not None for a in rest) or after is None:
            continue
        shape = static_shape(node)
        rows = len(shape) == 3 and shape[0] == 1 and static_shape(after)[:1] == (shape[1],)
        if len(node.users) == 1 and short(after) in VIEWS and after.args[0] is node and rows:
            _multiply_after(graph, node, after, gain)


def _multiply_after(graph: Graph, norm: Node, after: Node, gain: Node) -> None:
    shape = [-1, *[1] * (len(static_shape(after)) - 1)]
    norm.update_arg(1, None)
    with graph.inserting_after(after):
        column = graph.call_function(torch.ops.aten.view.default, (gain, shape))
    with graph.inserting_after(column):
        product = graph.call_function(torch.ops.aten.mul.Tensor, (after, column))
    for node in (column, product):
        args = torch.fx.map_arg(node.args, lambda n: n.meta["val"])
        node.meta["val"] = node.target(*args)  # type: ignore[operator]
    after.replace_all_uses_with(product, delete_user_cb=lambda user: user is not product)


__all__ = ["Fold", "computed", "find_folds", "put", "split_gains"]
