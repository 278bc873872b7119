"""Reductions: over space channels go through; over channels a sum, a norm and a mean can lose some."""

from __future__ import annotations

import math
from typing import Any

from torch.fx import Node

from compress.graph.labels import LabeledTensor, LabelField
from compress.graph.operators import RULES, operator_name
from compress.graph.rule_context import RuleContext, static_shape
from compress.graph.slice_plan import SHARE

SPREADS = {"var", "std", "var_mean", "std_mean"}
KEEPS_ZERO = {"mean", "sum", "amax", "amin", "max", "min", "linalg_vector_norm", "norm", *SPREADS}


@RULES.register("reduce")
def reduce(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Reduce over dimensions; the two-operand forms of max and min are elementwise."""
    from compress.graph.rules.elementwise import binary

    x = args[0]
    name = operator_name(node)
    if len(args) > 1 and isinstance(args[1], LabeledTensor):
        return binary(context, node, args, kwargs)
    dims, keepdim = _dims(node, name, args, kwargs, len(x.shape))
    operands = [a for a in args if isinstance(a, LabeledTensor)]
    if name in ("argmax", "cumsum"):
        if any(d in f.dims for f in x.fields for d in dims):
            return context.protect_all(node, operands, f"{name} over channels")
        return context.protect_all(node, operands, f"{name} of channels") if name == "argmax" else x
    fields = []
    gone: set[int] = set()
    for f in x.fields:
        inside = [d for d in f.dims if d in dims]
        if not inside:
            fields.append(_without(f, dims, keepdim))
        elif len(inside) < len(f.dims):
            fields.append(_without(across(context, node, f, inside), dims, keepdim))
        elif not x.zero_when_dropped or node in context.fixed or not _ignores_zero(name, args, kwargs):
            return context.protect_all(node, operands, f"{name} over channels changes when one is cut")
        gone |= {d for d in inside if len(inside) == len(f.dims)}
    if name == "mean" and context.narrow:
        _share(context, node, x, gone)
    several = isinstance(node.meta["val"], (tuple, list))
    clean = x.zero_when_dropped and name in KEEPS_ZERO
    out = LabeledTensor(context.shape(node, fields, 0 if several else None), tuple(fields), clean)
    second = out if name in SPREADS else LabeledTensor(out.shape)
    return [out, second] if several else out


def _ignores_zero(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether a reduction over channels can skip zero channels (a mean: up to a factor)."""
    order = args[1] if len(args) > 1 else kwargs.get("ord", kwargs.get("p", 2))
    order = 2 if order is None else order
    norm = name in ("linalg_vector_norm", "norm") and isinstance(order, (int, float)) and order > 0
    return name in ("sum", "mean") or norm


def _share(context: RuleContext, node: Node, x: LabeledTensor, dims: set[int]) -> None:
    """A mean over the channels that are left, as a share of all."""
    source = node.args[0]
    assert isinstance(source, Node)
    dense = static_shape(source)
    kept, width = math.prod(x.shape[d] for d in dims), math.prod(dense[d] for d in dims)
    if kept != width:
        context.rewrite(node, (kept / width,), SHARE)


def across(context: RuleContext, node: Node, f: LabelField, dims: list[int]) -> LabelField:
    """Tie the labels along some dimensions of a field, such as parallel branches or parts of a view."""
    left = tuple(d for d in f.dims if d not in dims)
    first = f.labels
    for d in dims:
        first = first.narrow(d, 0, 1)
    context.tie(first.expand_as(f.labels).reshape(-1), f.labels.reshape(-1), node)
    return LabelField(first, left)


def _dims(
    node: Node, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], rank: int
) -> tuple[list[int], bool]:
    at = 2 if name in ("linalg_vector_norm", "norm") else 1
    dims = args[at] if len(args) > at else kwargs.get("dim")
    keepdim = args[at + 1] if len(args) > at + 1 else kwargs.get("keepdim", False)
    if name in SPREADS and "correction" in str(node.target):
        keepdim = kwargs.get("keepdim", False)
    if dims is None or dims == []:
        return list(range(rank)), bool(keepdim)
    dims = [dims] if isinstance(dims, int) else list(dims)
    return [d % rank for d in dims], bool(keepdim)


def _without(f: LabelField, dims: list[int], keepdim: bool) -> LabelField:
    """The field after a reduction over dimensions along which it does not vary."""
    if keepdim:
        return f
    left = [d for d in range(f.labels.dim()) if d not in dims]
    labels = f.labels.permute([*left, *dims]).reshape([f.labels.shape[d] for d in left])
    return LabelField(labels, tuple(left.index(d) for d in f.dims))


@RULES.register("softmax")
def softmax(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Over channels everything depends on everything; over space a zero channel becomes uniform."""
    x, dim = args[0], args[1] % len(args[0].shape)
    for f in x.fields_along(dim):
        if f.dims == (dim,):
            return context.protect_all(node, [x], f"{operator_name(node)} over channels")
        across(context, node, f, [dim])
    return LabeledTensor(x.shape, x.fields, False)
