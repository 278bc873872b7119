"""Positions chosen by a tensor, and tensors written into part of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Node

from compress.graph.context import Context, Mismatch, short, static_shape
from compress.graph.labels import Field, Lab
from compress.graph.rules import rule
from compress.graph.rules.elementwise import pair
from compress.graph.rules.movement import common
from compress.graph.rules.parts import argument, in_order, pick


@rule("index_select", "index", "gather", "take")
def index(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Positions chosen by a tensor: a constant is followed, anything else only over space."""
    x = args[0]
    labs = [a for a in (x, *_flat(args[1:])) if isinstance(a, Lab)]
    dim, by = _indexed(node, len(x.shape))
    if dim is None:
        return ctx.give_up(node, labs, f"{short(node)} picks by several tensors")
    if not x.fields_along(dim):
        rank = len(static_shape(node))
        return (
            Lab(ctx.shape(node, x.fields), x.fields, x.clean)
            if rank == len(x.shape)
            else ctx.give_up(node, labs, f"{short(node)} by a tensor of several dimensions")
        )
    value = ctx.constant(by)
    if value is None or value.dim() != 1 or value.is_floating_point() or value.dtype == torch.bool:
        return ctx.give_up(node, labs, f"{short(node)} picks channels by a tensor that is no constant")
    size = static_shape(argument(node))[dim]
    return pick(ctx, node, x, dim, [[int(i) % size for i in value.tolist()]])[0]


def _indexed(node: Node, rank: int) -> tuple[int | None, Any]:
    """The one dimension that is indexed, and the node of the index."""
    if short(node) == "index_select":
        return int(node.args[1]) % rank, node.args[2]  # type: ignore[arg-type]
    if short(node) != "index":
        return None, None
    given: Any = node.args[1]
    used = [d for d, by in enumerate(given) if by is not None]
    return (used[0], given[used[0]]) if len(used) == 1 else (None, None)


def _flat(items: Sequence[Any]) -> list[Any]:
    return [x for item in items for x in (_flat(item) if isinstance(item, (list, tuple)) else [item])]


@rule("slice_scatter")
def slice_scatter(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A range along a dimension replaced by another tensor."""
    x, part = args[:2]
    dim, start, end, step = ([*args[2:], None, None, None, None])[:4]
    dim, step = (dim or 0) % len(x.shape), step or 1
    size = static_shape(argument(node))[dim]
    start, end, _ = slice(start, None if end is None or end > size else end).indices(size)
    inside = bool(x.fields_along(dim) or part.fields_along(dim))
    if step != 1 or (inside and not in_order(ctx, node, x, dim)):
        return ctx.give_up(node, [x, part], "writes into every n-th channel")
    if ctx.narrow and inside:
        keep = ctx.kept_along(argument(node), dim)
        start, end = int(keep[:start].sum()), int(keep[:end].sum())
        if part.shape[dim] != end - start:
            raise Mismatch(node, f"{part.shape[dim]} channels are written over {end - start}")
        ctx.rewrite(node, (*node.args[:2], dim, start, end))
    if not inside and (start, end) != (0, size):
        # Side by side over space: as in a sum, their channels are the same.
        return pair(ctx, node, x, part, product=False)
    parts = [_between(x, dim, 0, start), part, _between(x, dim, end, x.shape[dim])]
    return ctx.move(
        node, [p for p in parts if p.shape[dim]], lambda ts: torch.cat(common(ts, dim), dim), spread=(dim,)
    )


def _between(x: Lab, dim: int, start: int, end: int) -> Lab:
    """A range of a value, as labels."""
    fields = tuple(
        Field(f.labels.narrow(dim, start, end - start), f.dims) if dim in f.dims else f for f in x.fields
    )
    return Lab((*x.shape[:dim], end - start, *x.shape[dim + 1 :]), fields, x.clean)
