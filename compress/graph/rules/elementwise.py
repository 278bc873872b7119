"""Elementwise operators: what keeps zero keeps a dropped channel dropped."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from compress.graph.labels import NONE, LabeledTensor, LabelField, broadcast
from compress.graph.operators import RULES, operator_name
from compress.graph.rule_context import ChannelMismatch, RuleContext, static_shape


@RULES.register("keeps_zero")
def keeps_zero(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """f(0) = 0."""
    x = args[0]
    return LabeledTensor(x.shape, x.fields, x.zero_when_dropped, origin=x.columns_of)


@RULES.register("moves_zero")
def moves_zero(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """f(0) != 0: still one channel by itself, but not zero until it is multiplied by zero."""
    x = args[0]
    return LabeledTensor(x.shape, x.fields, False)


@RULES.register("clamp")
def clamp(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Zero stays zero if it is within the bounds."""
    x, bounds = args[0], [*args[1:], *kwargs.values()]
    if any(isinstance(b, LabeledTensor) for b in bounds):
        return context.protect_all(
            node, [x, *(b for b in bounds if isinstance(b, LabeledTensor))], "clamp between tensors"
        )
    name = operator_name(node)
    low, high = [*bounds, None, None][:2]
    if name.startswith("hardtanh"):
        low, high = (-1.0 if low is None else low), (1.0 if high is None else high)
    if name.startswith("clamp_max"):
        low, high = None, low
    if name.startswith("threshold"):
        keeps = low >= 0 and high == 0
    else:
        keeps = (low is None or low <= 0) and (high is None or high >= 0)
    return LabeledTensor(x.shape, x.fields, x.zero_when_dropped and keeps)


@RULES.register("prelu")
def prelu(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One slope for all channels, or one each, cut with them."""
    x, slope = args[:2]
    if slope.fields:
        channels = context.labels_along(x, 1, node)
        context.tie(
            channels, context.labels_along(slope, 0, node), node, (slope.source, 0) if slope.source else None
        )
    return LabeledTensor(x.shape, x.fields, x.zero_when_dropped)


@RULES.register("power")
def power(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Zero stays zero if the exponent is positive."""
    x, exponent = args[:2]
    if not isinstance(x, LabeledTensor) or isinstance(exponent, LabeledTensor):
        return context.protect_all(
            node, [a for a in args if isinstance(a, LabeledTensor)], "power with a tensor as exponent"
        )
    return LabeledTensor(x.shape, x.fields, x.zero_when_dropped and exponent > 0)


@RULES.register("binary")
def binary(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Two tensors, position by position, or a tensor and a number."""
    a, b = args[:2]
    name = operator_name(node).rstrip("_") if not operator_name(node).startswith("__") else "mul"
    name = "mul" if name.endswith("_and") else name
    if not isinstance(a, LabeledTensor) or not isinstance(b, LabeledTensor):
        return _with_number(context, node, name, a, b)
    if name == "div" and b.fields:
        if b.zero_when_dropped or not a.fields:
            return context.protect_all(node, [a, b], "division by a dropped channel")
        name = "mul"
    return pair(context, node, a, b, product=name in ("mul", "div"))


@RULES.register("addcmul")
def addcmul(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`x + value * a * b`."""
    x, a, b = args[:3]
    if max(len(a.shape), len(b.shape)) != len(static_shape(node)):
        return context.protect_all(node, [x, a, b], "addcmul of factors of another rank")
    return pair(context, node, x, pair(context, node, a, b, product=True), product=False)


def _with_number(context: RuleContext, node: Node, name: str, a: Any, b: Any) -> Any:
    tensor, number = (a, b) if isinstance(a, LabeledTensor) else (b, a)
    if not isinstance(tensor, LabeledTensor):
        functions = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv}
        return functions[name](a, b)
    if name in ("mul", "div") and isinstance(a, LabeledTensor):
        return LabeledTensor(tensor.shape, tensor.fields, tensor.zero_when_dropped, origin=tensor.columns_of)
    keeps = number == 0 and name != "div"
    return LabeledTensor(tensor.shape, tensor.fields, tensor.zero_when_dropped and (keeps or name == "mul"))


def pair(
    context: RuleContext, node: Node, a: LabeledTensor, b: LabeledTensor, product: bool
) -> LabeledTensor:
    """Two labeled tensors, position by position, with broadcasting."""
    rank = max(len(a.shape), len(b.shape))
    left, right = _at_rank(a, rank), _at_rank(b, rank)
    fields: list[LabelField] = []
    clean = True
    matched: set[int] = set()
    for f in left:
        partner = next((i for i, g in enumerate(right) if set(f.dims) & set(g.dims)), None)
        if partner is None:
            clean &= _alone(context, node, f, a.zero_when_dropped, product)
            fields.append(f)
            continue
        matched.add(partner)
        joined, ok = _join(context, node, f, right[partner], a, b, product)
        fields.append(joined)
        clean &= ok
    for i, g in enumerate(right):
        if i not in matched:
            clean &= _alone(context, node, g, b.zero_when_dropped, product)
            fields.append(g)
    origin = next((x.columns_of for x, y in ((a, b), (b, a)) if product and _scales_rows(x, y)), None)
    return LabeledTensor(context.shape(node, fields), tuple(fields), clean, origin=origin)


def _scales_rows(x: LabeledTensor, y: LabeledTensor) -> bool:
    """Return whether the second tensor is a parameter's, one number for each row of the first."""
    rows = len(x.shape) == len(y.shape) > 1 and y.shape == (x.shape[0], *[1] * (len(x.shape) - 1))
    return rows and x.columns_of is not None


def _at_rank(labeled: LabeledTensor, rank: int) -> list[LabelField]:
    shift = rank - len(labeled.shape)
    return [
        LabelField(f.labels.reshape([1] * shift + list(f.labels.shape)), tuple(d + shift for d in f.dims))
        for f in labeled.fields
    ]


def _alone(context: RuleContext, node: Node, f: LabelField, clean: bool, product: bool) -> bool:
    """A field whose other operand has no channels here."""
    if product:
        return clean
    context.protect(f.labels, f"{operator_name(node)} adds to it what is never cut")
    return True


def _join(
    context: RuleContext,
    node: Node,
    f: LabelField,
    g: LabelField,
    a: LabeledTensor,
    b: LabeledTensor,
    product: bool,
) -> tuple[LabelField, bool]:
    """Tie two fields where they overlap; the joined field and whether it is zero where dropped."""
    dims = tuple(sorted({*f.dims, *g.dims}))
    try:
        x, y = broadcast([f.labels, g.labels])
    except RuntimeError as error:
        raise ChannelMismatch(node, f"widths {tuple(f.labels.shape)} and {tuple(g.labels.shape)}") from error
    source = _source(b, g) if g.dims == dims else None  # not a parameter spread over other labels
    if product:
        both = (x != NONE) & (y != NONE)
        if bool(both.any()):
            context.tie(x[both], y[both], node, source if bool(both.all()) else None)
        ok = _product_clean(x, y, a.zero_when_dropped, b.zero_when_dropped)
    else:
        context.tie(x.reshape(-1), y.reshape(-1), node, source)
        ok = a.zero_when_dropped and b.zero_when_dropped
    return LabelField(torch.where(x == NONE, y, x), dims), ok


def _source(labeled: LabeledTensor, f: LabelField) -> tuple[str, int] | None:
    """The parameter dimension behind a one-dimensional field of a plain parameter."""
    if labeled.source is None or len(f.dims) != 1:
        return None
    shift = f.labels.dim() - len(labeled.shape)
    return labeled.source, f.dims[0] - shift


def _product_clean(x: Tensor, y: Tensor, x_clean: bool, y_clean: bool) -> bool:
    """A product is zero where either factor is zero."""
    if x_clean and y_clean:
        return True
    only_x = bool(((x != NONE) & (y == NONE)).any())
    only_y = bool(((y != NONE) & (x == NONE)).any())
    return (x_clean or y_clean) and (x_clean or not only_x) and (y_clean or not only_y)


@RULES.register("where")
def where(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Both branches belong to the same channel; the condition must not depend on channels."""
    condition, a, b = (*args, None, None)[:3]
    operands = [v for v in args if isinstance(v, LabeledTensor)]
    if condition.fields or not isinstance(a, LabeledTensor) or not isinstance(b, LabeledTensor):
        return context.protect_all(node, operands, "where with a condition of its own channels")
    return pair(context, node, a, b, product=False)


@RULES.register("ignore")
def checks(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A check of the trace: it makes nothing."""
    return None
