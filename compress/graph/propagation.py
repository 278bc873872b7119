"""Run the rules over an exported program, node by node."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from torch.export import ExportedProgram
from torch.fx import Node

from compress.graph.dense_pass import DensePass
from compress.graph.labels import LabeledTensor, LabelRegistry
from compress.graph.operators import operator_name, operator_of, rule_of
from compress.graph.program import constant_values, parameter_names, parameter_only, writes_in_place
from compress.graph.rule_context import ChannelMismatch, RuleContext, static_shape, unlabeled

if TYPE_CHECKING:
    from compress.graph.computed_weights import ComputedWeight


def propagate_labels(
    program: ExportedProgram, context: RuleContext, computed: Mapping[Node, ComputedWeight]
) -> dict[Node, Any]:
    """Run the rules over every node, in order; return each node's value.

    What is computed from the parameter of a fold carries the labels that the computation leaves apart;
    its result carries them all.

    Raises:
        ChannelMismatch: from the narrow pass only.
    """
    names = parameter_names(program)
    context.constants = constant_values(program)
    context.fixed = parameter_only(program.graph, set(names))
    values: dict[Node, Any] = {}
    whole: dict[Node, LabeledTensor] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder":
            values[node] = _placeholder(context, node, names)
            if node in computed:
                whole[computed[node].root] = replace(values[node], source=None, origin=computed[node].name)
                values[node] = computed[node].rows(values[node])
        elif node.op == "call_function":
            run = partial(apply_rule, node=node, values=values)
            values[node] = context.computed_weight(node, whole[node], run) if node in whole else run(context)
            if writes_in_place(node) and isinstance(node.args[0], Node):
                values[node.args[0]] = values[node]
        elif node.op == "output":
            for labeled in _labeled(_value(node.args, values)):
                context.protect(labeled.labels(), "network output")
        else:
            values[node] = unlabeled(node) if "val" in node.meta else None
    return values


def _placeholder(context: RuleContext, node: Node, names: dict[str, str]) -> Any:
    value = node.meta.get("val")
    if not hasattr(value, "shape"):
        return value
    shape = static_shape(node)
    return context.parameter(names[node.name], shape) if node.name in names else LabeledTensor(shape)


def apply_rule(context: RuleContext, node: Node, values: Mapping[Node, Any]) -> Any:
    """The value of one operator's node, by its rule."""
    args, kwargs = _value(node.args, values), _value(dict(node.kwargs), values)
    if node.target is operator.getitem:
        return args[0][args[1]]
    if (row := operator_of(node)).bookkeeping and not row.rule and isinstance(args[0], LabeledTensor):
        return args[0].shape[args[1]]
    operands = list(_labeled((args, kwargs)))
    if not operands:
        return _plain(node, args, kwargs)
    if not any(labeled.fields for labeled in operands):
        return unlabeled(node)
    rule = rule_of(node)
    if rule is None:
        return context.protect_all(node, operands, f"no rule for {operator_name(node)}")
    try:
        return rule(context, node, args, kwargs)
    except (ChannelMismatch, TypeError, ValueError, IndexError, RuntimeError, AttributeError) as error:
        if context.narrow:
            raise (
                error if isinstance(error, ChannelMismatch) else ChannelMismatch(node, str(error))
            ) from error
        return context.protect_all(
            node, operands, f"{operator_name(node)} in a form without a rule ({error})"
        )


def _plain(node: Node, args: Any, kwargs: Any) -> Any:
    """Arithmetic on numbers (sizes) is done; anything else carries no labels."""
    target: Any = node.target
    if isinstance(target, Callable) and getattr(target, "__module__", "") in ("_operator", "math"):  # type: ignore[arg-type]
        return target(*args, **kwargs)
    return unlabeled(node)


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


def _labeled(item: Any) -> Iterator[LabeledTensor]:
    if isinstance(item, LabeledTensor):
        yield item
    elif isinstance(item, (list, tuple)):
        for i in item:
            yield from _labeled(i)
    elif isinstance(item, dict):
        yield from _labeled(list(item.values()))


def run_dense_pass(
    program: ExportedProgram, free_pads: bool, computed: Mapping[Node, ComputedWeight]
) -> tuple[DensePass, dict[Node, Any]]:
    """The first pass over an exported program."""
    context = DensePass(LabelRegistry(), free_pads)
    return context, propagate_labels(program, context, computed)


__all__ = ["apply_rule", "propagate_labels", "run_dense_pass"]
