"""Parts of a dimension: ranges are counted in kept channels, single positions are picked one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from compress.graph.labels import NONE, LabeledTensor, Movement
from compress.graph.operators import RULES, operator_name
from compress.graph.rule_context import ChannelMismatch, RuleContext, static_shape
from compress.graph.slice_plan import PICK


@RULES.register("split")
def split(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Consecutive parts along a dimension; equal parts stay equal."""
    x = args[0]
    dim = (args[2] if len(args) > 2 else kwargs.get("dim", 0)) % len(x.shape)
    sizes = [static_shape(node, i)[dim] for i in range(len(node.meta["val"]))]
    along = x.fields_along(dim)
    if not context.narrow and len(set(sizes)) == 1 and operator_name(node) != "split_with_sizes":
        for f in along:
            if f.dims == (dim,):
                context.equal_counts([p.reshape(-1) for p in f.labels.split(sizes, dim)], node)
    if context.narrow and along:
        parts = [list(range(sum(sizes[:i]), sum(sizes[: i + 1]))) for i in range(len(sizes))]
        if not in_order(context, node, x, dim):
            return pick(context, node, x, dim, parts)
        keep = context.kept_along(argument(node), dim)
        new = [int(keep[part].sum()) for part in parts]
        if len(set(new)) > 1 or "chunk" not in operator_name(node):
            context.rewrite(node, (node.args[0], new, dim), torch.ops.aten.split_with_sizes.default)
        sizes = new
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [
        context.move(node, [x], lambda ts, a=a, n=n: ts[0].narrow(dim, a, n), index=i, spread=(dim,))  # type: ignore[misc]
        for i, (a, n) in enumerate(zip(starts, sizes, strict=True))
    ]


@RULES.register("slice")
def slice_(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A range along a dimension, its ends counted in kept channels."""
    x = args[0]
    dim, start, end, step = ([*args[1:], None, None, None, None])[:4]
    dim = (dim or 0) % len(x.shape)
    size = static_shape(argument(node))[dim]
    if operator_name(node) == "narrow":
        start, end, step = start, start + end, 1
    start, end, _ = slice(start, None if end is None or end > size else end).indices(size)
    step = 1 if step is None else step
    if x.fields_along(dim) and (step != 1 or not in_order(context, node, x, dim)):
        return pick(context, node, x, dim, [list(range(start, end, step))])[0]
    if context.narrow and x.fields_along(dim):
        keep = context.kept_along(argument(node), dim)
        begin, stop = int(keep[:start].sum()), int(keep[:end].sum())
        if (begin, stop) != (start, end):
            last = stop - begin if operator_name(node) == "narrow" else stop
            context.rewrite(node, (node.args[0], dim, begin, last))
        start, end = begin, stop
    index = [slice(None)] * len(x.shape)
    index[dim] = slice(start, end, step)
    return context.move(node, [x], lambda ts: ts[0][tuple(index)], spread=(dim,))


@RULES.register("select")
def select(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One position along a dimension."""
    x, dim, index = args
    dim %= len(x.shape)
    index %= static_shape(argument(node))[dim]
    if context.narrow and x.fields_along(dim):
        keep = context.kept_along(argument(node), dim)
        if not bool(keep[index]):
            raise ChannelMismatch(node, f"position {index} is gone")
        if not in_order(context, node, x, dim):
            raise ChannelMismatch(node, "one channel of several that arrive in another order")
        new = int(keep[:index].sum())
        if new != index:
            context.rewrite(node, (node.args[0], dim, new))
        index = new
    return context.move(node, [x], lambda ts: ts[0].select(dim, index), spread=(dim,))


def in_order(context: RuleContext, node: Node, x: LabeledTensor, dim: int) -> bool:
    """Return whether the kept channels of a narrow value have the same order as in the dense network."""
    if not context.narrow:
        return True
    dense = context.dense_value(argument(node)).fields_along(dim)
    here = x.fields_along(dim)
    if len(dense) != 1 or len(here) != 1 or here[0].dims != (dim,) or dense[0].dims != (dim,):
        return True
    at = context.locate(dense[0].labels.reshape(-1), here[0].labels.reshape(-1), node)
    return bool((at == torch.arange(at.numel())).all())


def pick(
    context: RuleContext, node: Node, x: LabeledTensor, dim: int, parts: Sequence[Sequence[int]]
) -> list[LabeledTensor]:
    """Positions along a dimension, given one by one; the narrow network picks those that are kept.

    One result for each of `parts`; positions are those of the dense value.
    """
    several = isinstance(node.meta["val"], (list, tuple))
    chosen = [torch.tensor(part, dtype=torch.int64) for part in parts]
    if context.narrow:
        dense, here = context.dense_value(argument(node)).fields_along(dim), x.fields_along(dim)
        if len(dense) != 1 or dense[0].dims != (dim,) or here[0].dims != (dim,):
            raise ChannelMismatch(node, "picks positions that several channels share")
        labels = dense[0].labels.reshape(-1)
        keep, where = context.is_kept(labels), torch.full(labels.shape, NONE)
        where[keep] = context.locate(labels, here[0].labels.reshape(-1), node)
        chosen = [where[part][keep[part]] for part in chosen]
        lists: list[Any] = [part.tolist() for part in chosen]
        context.rewrite(node, (node.args[0], dim, lists if several else lists[0]), PICK)
    return [
        context.move(node, [x], _selection(dim, at), index=i if several else None, spread=(dim,))
        for i, at in enumerate(chosen)
    ]


def _selection(dim: int, at: Tensor) -> Movement:
    return lambda ts: ts[0].index_select(dim, at)


@RULES.register("unbind")
def unbind(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Every position along a dimension; all must stay."""
    x = args[0]
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % len(x.shape)
    count = len(node.meta["val"])
    if x.shape[dim] != count:
        raise ChannelMismatch(node, "unbinds a dimension that is cut")
    return [
        context.move(node, [x], lambda ts, i=i: ts[0].select(dim, i), index=i, spread=(dim,))  # type: ignore[misc]
        for i in range(count)
    ]


def argument(node: Node) -> Node:
    first = node.args[0]
    assert isinstance(first, Node)
    return first
