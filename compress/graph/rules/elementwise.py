"""Elementwise operators: what keeps zero keeps a dropped channel dropped."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from compress.graph.context import Context, Mismatch, short, static_shape
from compress.graph.labels import NONE, Field, Lab, broadcast
from compress.graph.rules import rule


@rule(
    "relu",
    "relu6",
    "leaky_relu",
    "rrelu",
    "elu",
    "celu",
    "selu",
    "silu",
    "gelu",
    "mish",
    "hardswish",
    "tanh",
    "hardshrink",
    "softshrink",
    "tanhshrink",
    "softsign",
    "abs",
    "neg",
    "sign",
    "square",
    "sqrt",
    "sin",
    "asin",
    "atan",
    "sinh",
    "asinh",
    "erf",
    "expm1",
    "log1p",
    "floor",
    "ceil",
    "round",
    "trunc",
    "dropout",
    "feature_dropout",
    "alpha_dropout",
    "to",
    "_to_copy",
    "type_as",
    "contiguous",
    "clone",
    "alias",
    "detach",
    "detach_copy",
    "lift_fresh_copy",
    "nan_to_num",
    "conj",
    "positive",
)
def keeps_zero(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """f(0) = 0."""
    x = args[0]
    return Lab(x.shape, x.fields, x.clean, origin=x.columns_of)


@rule(
    "sigmoid",
    "hardsigmoid",
    "exp",
    "exp2",
    "cos",
    "cosh",
    "softplus",
    "log_sigmoid",
    "logsigmoid",
    "rsqrt",
    "reciprocal",
    "log",
    "log2",
    "erfc",
    "logical_not",
    "bitwise_not",
)
def moves_zero(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """f(0) != 0: still one channel by itself, but not zero; a product with a value that is zero mends it."""
    x = args[0]
    return Lab(x.shape, x.fields, False)


@rule("hardtanh", "clamp", "clip", "clamp_min", "clamp_max", "threshold")
def clamp(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Keeps zero if zero lies inside the bounds."""
    x, bounds = args[0], [*args[1:], *kwargs.values()]
    if any(isinstance(b, Lab) for b in bounds):
        return ctx.give_up(node, [x, *(b for b in bounds if isinstance(b, Lab))], "clamp between tensors")
    name = short(node)
    low, high = [*bounds, None, None][:2]
    if name.startswith("hardtanh"):
        low, high = (-1.0 if low is None else low), (1.0 if high is None else high)
    if name.startswith("clamp_max"):
        low, high = None, low
    if name.startswith("threshold"):
        keeps = low >= 0 and high == 0
    else:
        keeps = (low is None or low <= 0) and (high is None or high >= 0)
    return Lab(x.shape, x.fields, x.clean and keeps)


@rule("prelu")
def prelu(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One slope for all channels, or one each, cut with them."""
    x, slope = args[:2]
    if slope.fields:
        channels = ctx.vector(x, 1, node)
        ctx.tie(channels, ctx.vector(slope, 0, node), node, (slope.source, 0) if slope.source else None)
    return Lab(x.shape, x.fields, x.clean)


@rule("pow")
def power(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A positive exponent keeps zero."""
    x, exponent = args[:2]
    if not isinstance(x, Lab) or isinstance(exponent, Lab):
        return ctx.give_up(node, [a for a in args if isinstance(a, Lab)], "power with a tensor as exponent")
    return Lab(x.shape, x.fields, x.clean and exponent > 0)


@rule("add", "sub", "rsub", "mul", "div", "maximum", "minimum", "__and__", "logical_and", "bitwise_and")
def binary(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Two tensors, position by position, or a tensor and a number."""
    a, b = args[:2]
    name = short(node).rstrip("_") if not short(node).startswith("__") else "mul"
    name = "mul" if name.endswith("_and") else name
    if not isinstance(a, Lab) or not isinstance(b, Lab):
        return _with_number(ctx, node, name, a, b)
    if name == "div" and b.fields:
        if b.clean or not a.fields:
            return ctx.give_up(node, [a, b], "division by a dropped channel")
        name = "mul"
    return pair(ctx, node, a, b, product=name in ("mul", "div"))


@rule("addcmul")
def addcmul(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`x + value * a * b`."""
    x, a, b = args[:3]
    if max(len(a.shape), len(b.shape)) != len(static_shape(node)):
        return ctx.give_up(node, [x, a, b], "addcmul of factors of another rank")
    return pair(ctx, node, x, pair(ctx, node, a, b, product=True), product=False)


def _with_number(ctx: Context, node: Node, name: str, a: Any, b: Any) -> Any:
    tensor, number = (a, b) if isinstance(a, Lab) else (b, a)
    if not isinstance(tensor, Lab):
        functions = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv}
        return functions[name](a, b)
    if name in ("mul", "div") and isinstance(a, Lab):
        return Lab(tensor.shape, tensor.fields, tensor.clean, origin=tensor.columns_of)
    keeps = number == 0 and name != "div"
    return Lab(tensor.shape, tensor.fields, tensor.clean and (keeps or name == "mul"))


def pair(ctx: Context, node: Node, a: Lab, b: Lab, product: bool) -> Lab:
    """Two labelled tensors, position by position, with broadcasting."""
    rank = max(len(a.shape), len(b.shape))
    left, right = _at_rank(a, rank), _at_rank(b, rank)
    fields: list[Field] = []
    clean = True
    matched: set[int] = set()
    for f in left:
        partner = next((i for i, g in enumerate(right) if set(f.dims) & set(g.dims)), None)
        if partner is None:
            clean &= _alone(ctx, node, f, a.clean, product)
            fields.append(f)
            continue
        matched.add(partner)
        joined, ok = _join(ctx, node, f, right[partner], a, b, product)
        fields.append(joined)
        clean &= ok
    for i, g in enumerate(right):
        if i not in matched:
            clean &= _alone(ctx, node, g, b.clean, product)
            fields.append(g)
    origin = next((x.columns_of for x, y in ((a, b), (b, a)) if product and _scales_rows(x, y)), None)
    return Lab(ctx.shape(node, fields), tuple(fields), clean, origin=origin)


def _scales_rows(x: Lab, y: Lab) -> bool:
    """Whether the second tensor is a parameter's, one number for each row of the first."""
    rows = len(x.shape) == len(y.shape) > 1 and y.shape == (x.shape[0], *[1] * (len(x.shape) - 1))
    return rows and x.columns_of is not None


def _at_rank(lab: Lab, rank: int) -> list[Field]:
    shift = rank - len(lab.shape)
    return [
        Field(f.labels.reshape([1] * shift + list(f.labels.shape)), tuple(d + shift for d in f.dims))
        for f in lab.fields
    ]


def _alone(ctx: Context, node: Node, f: Field, clean: bool, product: bool) -> bool:
    """A field whose other operand has no channels here."""
    if product:
        return clean
    ctx.protect(f.labels, f"{short(node)} adds to it what is never cut")
    return True


def _join(ctx: Context, node: Node, f: Field, g: Field, a: Lab, b: Lab, product: bool) -> tuple[Field, bool]:
    """Tie two fields where they overlap; the joined field and whether it is zero where dropped."""
    dims = tuple(sorted({*f.dims, *g.dims}))
    try:
        x, y = broadcast([f.labels, g.labels])
    except RuntimeError as error:
        raise Mismatch(node, f"widths {tuple(f.labels.shape)} and {tuple(g.labels.shape)}") from error
    source = _source(b, g) if g.dims == dims else None  # not a parameter spread over other labels
    if product:
        both = (x != NONE) & (y != NONE)
        if bool(both.any()):
            ctx.tie(x[both], y[both], node, source if bool(both.all()) else None)
        ok = _product_clean(x, y, a.clean, b.clean)
    else:
        ctx.tie(x.reshape(-1), y.reshape(-1), node, source)
        ok = a.clean and b.clean
    return Field(torch.where(x == NONE, y, x), dims), ok


def _source(lab: Lab, f: Field) -> tuple[str, int] | None:
    """The parameter dimension behind a one-dimensional field of a plain parameter."""
    if lab.source is None or len(f.dims) != 1:
        return None
    shift = f.labels.dim() - len(lab.shape)
    return lab.source, f.dims[0] - shift


def _product_clean(x: Tensor, y: Tensor, x_clean: bool, y_clean: bool) -> bool:
    """A product is zero where either factor is zero."""
    if x_clean and y_clean:
        return True
    only_x = bool(((x != NONE) & (y == NONE)).any())
    only_y = bool(((y != NONE) & (x == NONE)).any())
    return (x_clean or y_clean) and (x_clean or not only_x) and (y_clean or not only_y)


@rule("where")
def where(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Both branches belong to the same channel; the condition may not depend on channels."""
    condition, a, b = (*args, None, None)[:3]
    labs = [v for v in args if isinstance(v, Lab)]
    if condition.fields or not isinstance(a, Lab) or not isinstance(b, Lab):
        return ctx.give_up(node, labs, "where with a condition of its own channels")
    return pair(ctx, node, a, b, product=False)


@rule("_assert_tensor_metadata")
def checks(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A check of the trace: it makes nothing."""
    return None
