"""Exported programs: `torch.export` of a module, brought into the form that the rules read."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Graph, Node

from compress.core.errors import CompressError, Exit
from compress.core.garbage_collection import garbage_collection_paused
from compress.graph.operators import operator_name, operator_of
from compress.graph.rule_context import static_shape
from compress.graph.slice_plan import EVALUATES_ONLY


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode and give every submodule its own mode back."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def export_program(model: nn.Module, inputs: tuple[Tensor, ...]) -> ExportedProgram:
    """`torch.export` in eval mode, with a free batch size where the model allows one.

    Raises:
        CompressError: (exit 4) the model cannot be exported; the reason is the exporter's.
    """
    free = tuple({0: torch.export.Dim.AUTO} if x.dim() else None for x in inputs)
    error: Exception | None = None
    with evaluating(model), torch.no_grad(), garbage_collection_paused():
        for shapes in (free, None):
            try:
                program = torch.export.export(model, inputs, dynamic_shapes=shapes, strict=False)
            except Exception as problem:
                error = error or problem
                continue
            split_gains(program)
            return _functional(program) if _mutates_views(program.graph) else program
    raise CompressError(
        f"{type(model).__name__} cannot be traced by torch.export: {str(error).splitlines()[0][:300]}",
        hint="a network must export before it can be cut or deployed; see the torch.export documentation",
        code="untraceable",
        exit=Exit.BUILD,
    ) from error


def _functional(program: ExportedProgram) -> ExportedProgram:
    """The program without in-place operators; it cannot train if it loses operators that only act then."""
    lost = sorted({operator_name(n).rstrip("_") for n in program.graph.nodes if _is_lost_in_evaluation(n)})
    functional: ExportedProgram = program.run_decompositions({})
    functional.graph_module.meta[EVALUATES_ONLY] = lost
    return functional


def _is_lost_in_evaluation(node: Node) -> bool:
    """Return whether a node is random in training only; a dropout with probability 0 is not."""
    if operator_of(node).random != "training":
        return False
    return "dropout" not in operator_name(node) or len(node.args) < 2 or bool(node.args[1] != 0)


def _mutates_views(graph: Graph) -> bool:
    """Return whether an in-place operator writes into memory that is read again under another name."""
    order = {node: i for i, node in enumerate(graph.nodes)}
    base: dict[Node, Node] = {}
    shared: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        source = node.args[0] if node.op == "call_function" and node.args else None
        views = isinstance(source, Node) and (writes_in_place(node) or _may_alias(node))
        base[node] = base[source] if views and isinstance(source, Node) else node
        shared.setdefault(base[node], []).append(node)
    for node in graph.nodes:
        if node.op == "call_function" and writes_in_place(node) and isinstance(node.args[0], Node):
            others = [n for n in shared[base[node]] if order[n] < order[node] and n is not node.args[0]]
            if any(order[user] > order[node] for other in others for user in other.users):
                return True
    return False


def _may_alias(node: Node) -> bool:
    if node.target is operator.getitem or operator_of(node).may_alias:
        return True
    schema = getattr(node.target, "_schema", None)
    return bool(schema and any(r.alias_info for r in schema.returns))


def writes_in_place(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return bool(
        schema
        and schema.arguments
        and schema.arguments[0].alias_info
        and schema.arguments[0].alias_info.is_write
    )


def parameter_names(program: ExportedProgram) -> dict[str, str]:
    """Graph placeholder to fully qualified name, for parameters and buffers; one name for a shared tensor."""
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    first: dict[int, str] = {}
    tensors: dict[str, Any] = {**program.constants, **program.state_dict}
    return {node: first.setdefault(id(tensors.get(name, name)), name) for node, name in names.items()}


def constant_values(program: ExportedProgram) -> dict[str, Tensor]:
    """Graph placeholder to tensor, for buffers and constants (not parameters)."""
    signature = program.graph_signature
    names = {**signature.inputs_to_buffers, **signature.inputs_to_lifted_tensor_constants}
    tensors: dict[str, Any] = {**program.constants, **program.state_dict}
    return {node: tensors[name] for node, name in names.items() if isinstance(tensors.get(name), Tensor)}


def as_inputs(example: Tensor | Sequence[Any]) -> tuple[Any, ...]:
    """The example inputs as a tuple."""
    return (example,) if isinstance(example, Tensor) else tuple(example)


def parameter_only(graph: Graph, given: set[str]) -> set[Node]:
    """The nodes that depend on nothing but placeholders of these names."""
    out: set[Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" and node.name in given and hasattr(node.meta.get("val"), "shape"):
            out.add(node)
        elif node.op == "call_function" and node.all_input_nodes and out.issuperset(node.all_input_nodes):
            out |= {node} if not operator_of(node).random else set()
    return out


def split_gains(program: ExportedProgram) -> None:
    """Take the gain of a weight standardisation by batch norm out of it: multiply afterwards.

    `batch_norm(w.reshape(1, rows, -1), weight=gain).reshape_as(w)` becomes the same without a gain, times
    `gain.view(rows, 1, ...)`; the gain then stays a parameter of its own when the rest is folded.
    """
    graph, signature = program.graph, program.graph_signature
    parameters = {*signature.inputs_to_parameters, *signature.inputs_to_buffers}
    fixed = parameter_only(graph, {*parameters, *signature.inputs_to_lifted_tensor_constants})
    for node in list(graph.nodes):
        if node not in fixed or node.op != "call_function" or operator_name(node) != "batch_norm":
            continue
        gain, rest = node.args[1], node.args[2:5]
        after = next(iter(node.users), None)
        if not isinstance(gain, Node) or any(a is not None for a in rest) or after is None:
            continue
        shape = static_shape(node)
        rows = len(shape) == 3 and shape[0] == 1 and static_shape(after)[:1] == (shape[1],)
        if len(node.users) == 1 and operator_of(after).rule == "reshape" and after.args[0] is node and rows:
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
