"""Reductions: over space channels go through; over channels a sum, a norm and a mean can lose some."""

from __future__ import annotations

import math
from typing import Any

from torch.fx import Node

from compress.graph.context import Context, short, static_shape
from compress.graph.labels import Field, Lab
from compress.graph.rules import rule
from compress.planning.plan import SHARE

SPREADS = {"var", "std", "var_mean", "std_mean"}
KEEPS_ZERO = {"mean", "sum", "amax", "amin", "max", "min", "linalg_vector_norm", "norm", *SPREADS}


@rule(
    "mean",
    "sum",
    "amax",
    "amin",
    "max",
    "min",
    "var",
    "std",
    "var_mean",
    "std_mean",
    "linalg_vector_norm",
    "norm",
    "argmax",
    "cumsum",
)
def reduce(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Reduce over dimensions; the two-operand forms of max and min are elementwise."""
    from compress.graph.rules.elementwise import binary

    x = args[0]
    name = short(node)
    if len(args) > 1 and isinstance(args[1], Lab):
        return binary(ctx, node, args, kwargs)
    dims, keepdim = _dims(node, name, args, kwargs, len(x.shape))
    labs = [a for a in args if isinstance(a, Lab)]
    if name in ("argmax", "cumsum"):
        if any(d in f.dims for f in x.fields for d in dims):
            return ctx.give_up(node, labs, f"{name} over channels")
        return ctx.give_up(node, labs, f"{name} of channels") if name == "argmax" else x
    fields = []
    gone: set[int] = set()
    for f in x.fields:
        inside = [d for d in f.dims if d in dims]
        if not inside:
            fields.append(_without(f, dims, keepdim))
        elif len(inside) < len(f.dims):
            fields.append(_without(across(ctx, node, f, inside), dims, keepdim))
        elif not x.clean or node in ctx.fixed or not _ignores_zero(name, args, kwargs):
            return ctx.give_up(node, labs, f"{name} over channels changes when one is cut")
        gone |= {d for d in inside if len(inside) == len(f.dims)}
    if name == "mean" and ctx.narrow:
        _share(ctx, node, x, gone)
    several = isinstance(node.meta["val"], (tuple, list))
    clean = x.clean and name in KEEPS_ZERO
    out = Lab(ctx.shape(node, fields, 0 if several else None), tuple(fields), clean)
    second = out if name in SPREADS else Lab(out.shape)
    return [out, second] if several else out


def _ignores_zero(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a reduction over channels does without those that are zero (a mean: up to a factor)."""
    order = args[1] if len(args) > 1 else kwargs.get("ord", kwargs.get("p", 2))
    order = 2 if order is None else order
    norm = name in ("linalg_vector_norm", "norm") and isinstance(order, (int, float)) and order > 0
    return name in ("sum", "mean") or norm


def _share(ctx: Context, node: Node, x: Lab, dims: set[int]) -> None:
    """A mean over the channels that are left, as a share of all."""
    source = node.args[0]
    assert isinstance(source, Node)
    dense = static_shape(source)
    kept, width = math.prod(x.shape[d] for d in dims), math.prod(dense[d] for d in dims)
    if kept != width:
        ctx.rewrite(node, (kept / width,), SHARE)


def across(ctx: Context, node: Node, f: Field, dims: list[int]) -> Field:
    """Tie what lies along some of a field's dimensions: branches side by side, or the parts of a view."""
    left = tuple(d for d in f.dims if d not in dims)
    first = f.labels
    for d in dims:
        first = first.narrow(d, 0, 1)
    ctx.tie(first.expand_as(f.labels).reshape(-1), f.labels.reshape(-1), node)
    return Field(first, left)


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


def _without(f: Field, dims: list[int], keepdim: bool) -> Field:
    """The field after a reduction over dimensions along which it does not vary."""
    if keepdim:
        return f
    left = [d for d in range(f.labels.dim()) if d not in dims]
    labels = f.labels.permute([*left, *dims]).reshape([f.labels.shape[d] for d in left])
    return Field(labels, tuple(left.index(d) for d in f.dims))


@rule("softmax", "_softmax", "log_softmax", "_log_softmax")
def softmax(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Over channels everything depends on everything; over space a zero channel becomes uniform."""
    x, dim = args[0], args[1] % len(args[0].shape)
    for f in x.fields_along(dim):
        if f.dims == (dim,):
            return ctx.give_up(node, [x], f"{short(node)} over channels")
        across(ctx, node, f, [dim])
    return Lab(x.shape, x.fields, False)
