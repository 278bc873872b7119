"""Positions chosen by a tensor, and tensors written into part of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Node

from compress.graph.labels import LabeledTensor, LabelField
from compress.graph.operators import RULES, operator_name
from compress.graph.rule_context import ChannelMismatch, RuleContext, static_shape
from compress.graph.rules.elementwise import pair
from compress.graph.rules.movement import common
from compress.graph.rules.parts import argument, in_order, pick


@RULES.register("index")
def index(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Positions chosen by a tensor: a constant is followed, anything else only over space."""
    x = args[0]
    operands = [a for a in (x, *_flat(args[1:])) if isinstance(a, LabeledTensor)]
    dim, by = _indexed(node, len(x.shape))
    if dim is None:
        return context.protect_all(node, operands, f"{operator_name(node)} picks by several tensors")
    if not x.fields_along(dim):
        rank = len(static_shape(node))
        return (
            LabeledTensor(context.shape(node, x.fields), x.fields, x.zero_when_dropped)
            if rank == len(x.shape)
            else context.protect_all(
                node, operands, f"{operator_name(node)} by a tensor of several dimensions"
            )
        )
    value = context.constant(by)
    if value is None or value.dim() != 1 or value.is_floating_point() or value.dtype == torch.bool:
        return context.protect_all(
            node, operands, f"{operator_name(node)} picks channels by a tensor that is no constant"
        )
    size = static_shape(argument(node))[dim]
    return pick(context, node, x, dim, [[int(i) % size for i in value.tolist()]])[0]


def _indexed(node: Node, rank: int) -> tuple[int | None, Any]:
    """The one dimension that is indexed, and the node of the index."""
    if operator_name(node) == "index_select":
        return int(node.args[1]) % rank, node.args[2]  # type: ignore[arg-type]
    if operator_name(node) != "index":
        return None, None
    given: Any = node.args[1]
    used = [d for d, by in enumerate(given) if by is not None]
    return (used[0], given[used[0]]) if len(used) == 1 else (None, None)


def _flat(items: Sequence[Any]) -> list[Any]:
    return [x for item in items for x in (_flat(item) if isinstance(item, (list, tuple)) else [item])]


@RULES.register("slice_scatter")
def slice_scatter(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A range along a dimension replaced by another tensor."""
    x, part = args[:2]
    dim, start, end, step = ([*args[2:], None, None, None, None])[:4]
    dim, step = (dim or 0) % len(x.shape), step or 1
    size = static_shape(argument(node))[dim]
    start, end, _ = slice(start, None if end is None or end > size else end).indices(size)
    inside = bool(x.fields_along(dim) or part.fields_along(dim))
    if step != 1 or (inside and not in_order(context, node, x, dim)):
        return context.protect_all(node, [x, part], "writes into every n-th channel")
    if context.narrow and inside:
        keep = context.kept_along(argument(node), dim)
        start, end = int(keep[:start].sum()), int(keep[:end].sum())
        if part.shape[dim] != end - start:
            raise ChannelMismatch(node, f"{part.shape[dim]} channels are written over {end - start}")
        context.rewrite(node, (*node.args[:2], dim, start, end))
    if not inside and (start, end) != (0, size):
        # Side by side over space: as in a sum, their channels are the same.
        return pair(context, node, x, part, product=False)
    parts = [_between(x, dim, 0, start), part, _between(x, dim, end, x.shape[dim])]
    return context.move(
        node, [p for p in parts if p.shape[dim]], lambda ts: torch.cat(common(ts, dim), dim), spread=(dim,)
    )


def _between(x: LabeledTensor, dim: int, start: int, end: int) -> LabeledTensor:
    """A range of a value, as labels."""
    fields = tuple(
        LabelField(f.labels.narrow(dim, start, end - start), f.dims) if dim in f.dims else f for f in x.fields
    )
    return LabeledTensor((*x.shape[:dim], end - start, *x.shape[dim + 1 :]), fields, x.zero_when_dropped)
