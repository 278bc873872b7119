"""From a module to a channel graph: `torch.export` once, then one pass of the rules over its nodes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Graph, Node

from compress.core.errors import CompressError, Exit
from compress.graph.context import Context, Dense, Mismatch, short, static_shape, unlabelled
from compress.graph.folds import Fold, find_folds, parameter_only, split_gains
from compress.graph.labels import Lab, Registry
from compress.graph.rules import find
from compress.planning.plan import EVALUATES_ONLY

VIEWS = {
    "reshape",
    "flatten",
    "contiguous",
    "to",
    "expand_as",
    "view_as",
    "reshape_as",
    "dropout",
    "detach",
    "feature_dropout",
    "alpha_dropout",
    "type_as",
    "chunk",
    "split",
    "movedim",
    "swapaxes",
    "unflatten",
}
"""Operators that may return their argument's own memory although their schema does not say so."""


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
    with evaluating(model), torch.no_grad():
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


RANDOM = ("dropout", "feature_dropout", "alpha_dropout", "bernoulli", "rrelu", "native_dropout")


def _functional(program: ExportedProgram) -> ExportedProgram:
    """The program without in-place operators; it cannot train if it loses operators that only act then."""
    lost = sorted({short(n).rstrip("_") for n in program.graph.nodes if _acts_in_training(n)})
    functional: ExportedProgram = program.run_decompositions({})
    functional.graph_module.meta[EVALUATES_ONLY] = lost
    return functional


def _acts_in_training(node: Node) -> bool:
    """Whether a node is random in training; a dropout with probability 0 is not."""
    if node.op != "call_function" or short(node).rstrip("_") not in RANDOM:
        return False
    return "dropout" not in short(node) or len(node.args) < 2 or bool(node.args[1] != 0)


def _mutates_views(graph: Graph) -> bool:
    """Whether an in-place operator writes into memory that is read again under another name."""
    order = {node: i for i, node in enumerate(graph.nodes)}
    base: dict[Node, Node] = {}
    shared: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        source = node.args[0] if node.op == "call_function" and node.args else None
        views = isinstance(source, Node) and (_in_place(node) or _may_alias(node))
        base[node] = base[source] if views and isinstance(source, Node) else node
        shared.setdefault(base[node], []).append(node)
    for node in graph.nodes:
        if node.op == "call_function" and _in_place(node) and isinstance(node.args[0], Node):
            others = [n for n in shared[base[node]] if order[n] < order[node] and n is not node.args[0]]
            if any(order[user] > order[node] for other in others for user in other.users):
                return True
    return False


def _may_alias(node: Node) -> bool:
    if node.target is operator.getitem or short(node) in VIEWS:
        return True
    schema = getattr(node.target, "_schema", None)
    return bool(schema and any(r.alias_info for r in schema.returns))


def _in_place(node: Node) -> bool:
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
    held: dict[str, Any] = {**program.constants, **program.state_dict}
    return {node: first.setdefault(id(held.get(name, name)), name) for node, name in names.items()}


def constant_values(program: ExportedProgram) -> dict[str, Tensor]:
    """Graph placeholder to tensor, for buffers and constants (not parameters)."""
    signature = program.graph_signature
    names = {**signature.inputs_to_buffers, **signature.inputs_to_lifted_tensor_constants}
    held: dict[str, Any] = {**program.constants, **program.state_dict}
    return {node: held[name] for node, name in names.items() if isinstance(held.get(name), Tensor)}


def walk(program: ExportedProgram, ctx: Context, folds: Mapping[Node, Fold]) -> dict[Node, Any]:
    """Run the rules over every node, in order; return each node's value.

    What is computed from the parameter of a fold carries the labels that the computation leaves apart;
    its result carries them all.

    Raises:
        Mismatch: from the narrow pass only.
    """
    names = parameter_names(program)
    ctx.constants = constant_values(program)
    ctx.fixed = parameter_only(program.graph, set(names))
    values: dict[Node, Any] = {}
    whole: dict[Node, Lab] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder":
            values[node] = _placeholder(ctx, node, names)
            if node in folds:
                whole[folds[node].root] = replace(values[node], source=None, origin=folds[node].name)
                values[node] = folds[node].rows(values[node])
        elif node.op == "call_function":
            run = partial(call, node=node, values=values)
            values[node] = ctx.fold(node, whole[node], run) if node in whole else run(ctx)
            if _in_place(node) and isinstance(node.args[0], Node):
                values[node.args[0]] = values[node]
        elif node.op == "output":
            for lab in _labs(_value(node.args, values)):
                ctx.protect(lab.labels(), "network output")
        else:
            values[node] = unlabelled(node) if "val" in node.meta else None
    return values


def _placeholder(ctx: Context, node: Node, names: dict[str, str]) -> Any:
    value = node.meta.get("val")
    if not hasattr(value, "shape"):
        return value
    shape = static_shape(node)
    return ctx.parameter(names[node.name], shape) if node.name in names else Lab(shape)


def call(ctx: Context, node: Node, values: Mapping[Node, Any]) -> Any:
    """The value of one operator's node, by its rule."""
    args, kwargs = _value(node.args, values), _value(dict(node.kwargs), values)
    if node.target is operator.getitem:
        return args[0][args[1]]
    if short(node) in ("sym_size", "size") and isinstance(args[0], Lab):
        return args[0].shape[args[1]]
    labs = list(_labs((args, kwargs)))
    if not labs:
        return _plain(node, args, kwargs)
    if not any(lab.fields for lab in labs):
        return unlabelled(node)
    rule = find(node)
    if rule is None:
        return ctx.give_up(node, labs, f"no rule for {short(node)}")
    try:
        return rule(ctx, node, args, kwargs)
    except (Mismatch, TypeError, ValueError, IndexError, RuntimeError, AttributeError) as error:
        if ctx.narrow:
            raise error if isinstance(error, Mismatch) else Mismatch(node, str(error)) from error
        return ctx.give_up(node, labs, f"{short(node)} in a form without a rule ({error})")


def _plain(node: Node, args: Any, kwargs: Any) -> Any:
    """Arithmetic on numbers (sizes) is done; anything else carries no labels."""
    target: Any = node.target
    if isinstance(target, Callable) and getattr(target, "__module__", "") in ("_operator", "math"):  # type: ignore[arg-type]
        return target(*args, **kwargs)
    return unlabelled(node)


def _value(item: Any, values: Mapping[Node, Any]) -> Any:
    if isinstance(item, Node):
        return values[item]
    if isinstance(item, (list, tuple)):
        return (
            type(item)(_value(i, values) for i in item)
            if type(item) in (list, tuple)
            else [_value(i, values) for i in item]
        )
    if isinstance(item, dict):
        return {k: _value(v, values) for k, v in item.items()}
    return item


def _labs(item: Any) -> Iterator[Lab]:
    if isinstance(item, Lab):
        yield item
    elif isinstance(item, (list, tuple)):
        for i in item:
            yield from _labs(i)
    elif isinstance(item, dict):
        yield from _labs(list(item.values()))


def dense_pass(
    program: ExportedProgram, free_pads: bool, folds: Mapping[Node, Fold]
) -> tuple[Dense, dict[Node, Any]]:
    """The first pass over an exported program."""
    ctx = Dense(Registry(), free_pads)
    return ctx, walk(program, ctx, folds)


def folds_of(program: ExportedProgram) -> dict[Node, Fold]:
    """The computed weights of an exported program that a cut may fold, by their parameter's node."""
    return find_folds(program, parameter_names(program))


def as_inputs(example: Tensor | Sequence[Any]) -> tuple[Any, ...]:
    """The example inputs as a tuple."""
    return (example,) if isinstance(example, Tensor) else tuple(example)
