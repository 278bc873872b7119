"""Pure data movement: the operator is run on the labels, so where each channel goes is read off, not derived.

In the narrow pass the constants that a trace has baked in (sizes of a view, of a split, ends of a slice) are
worked out again from the channels that are kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from ..context import Context, Mismatch, short, static_shape, unlabelled
from ..labels import NONE, Field, Lab
from ..plan import PICK
from . import rule


@rule("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as")
def reshape(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The same elements in another shape."""
    x = args[0]
    if not x.fields:
        return unlabelled(node)
    shape = narrow_shape(ctx, node) if ctx.narrow else static_shape(node)
    if math.prod(shape) != math.prod(x.shape):
        raise Mismatch(node, f"{x.shape} does not fill {shape}")
    out = ctx.move(node, [x], lambda ts: ts[0].reshape(shape))
    if ctx.narrow and shape != static_shape(node):
        _rewrite_sizes(ctx, node, shape)
    elif not ctx.narrow:
        for f in out.fields:
            if len(f.dims) > 1:
                ctx.regular(node, f)
    return out


def _rewrite_sizes(ctx: Context, node: Node, shape: Sequence[int]) -> None:
    """Sizes that were baked in, with the symbolic ones (the batch) left alone."""
    sizes = node.args[1] if len(node.args) > 1 else None
    name = short(node)
    if name == "unflatten":
        first = int(node.args[1])  # type: ignore[arg-type]
        given = list(node.args[2])  # type: ignore[arg-type]
        ctx.rewrite(node, (node.args[0], first, list(shape[first % len(shape) :][: len(given)])))
    elif name in ("view", "reshape", "_unsafe_view") and isinstance(sizes, (list, tuple)):
        new = [s if isinstance(s, Node) or s == -1 else n for s, n in zip(sizes, shape, strict=True)]
        ctx.rewrite(node, (node.args[0], new))


def narrow_shape(ctx: Context, node: Node, index: int | None = None) -> tuple[int, ...]:
    """The shape of a node's value when the dropped channels are gone."""
    dense = ctx.dense_value(node)
    lab: Lab = dense if index is None else dense[index]
    shape = list(lab.shape)
    for f in lab.fields:
        keep = ctx.keeps(f.labels)
        sizes = {d: int(keep.movedim(d, 0).reshape(keep.shape[d], -1).any(1).sum()) for d in f.dims}
        total = int(keep.sum())
        if math.prod(sizes.values()) != total:
            carrier = f.dims[-1]
            rest = math.prod(size for d, size in sizes.items() if d != carrier)
            if not rest or total % rest:
                raise Mismatch(node, f"{total} channels do not divide into {rest}")
            sizes[carrier] = total // rest
        for d, size in sizes.items():
            shape[d] = size
    return tuple(shape)


@rule("permute", "transpose", "t", "movedim", "swapaxes", "flip", "numpy_T")
def permute(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Dimensions in another order."""
    target: Any = node.target
    return ctx.move(node, [args[0]], lambda ts: target(ts[0], *args[1:], **kwargs), spread=())


@rule("expand", "broadcast_to", "expand_as")
def expand(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Repeat along dimensions of size 1: the labels do not vary there."""
    x = args[0]
    shape = static_shape(node)
    shift = len(shape) - len(x.shape)
    out = ctx.move(node, [x], lambda ts: ts[0].reshape([1] * shift + list(ts[0].shape)), spread=())
    if ctx.narrow and out.fields and isinstance(node.args[1], (list, tuple)):
        new = ctx.shape(node, out.fields)
        ctx.rewrite(node, (node.args[0], [s if isinstance(s, Node) or s == -1 else n
                                          for s, n in zip(node.args[1], new, strict=True)]))
    return Lab(ctx.shape(node, out.fields), out.fields, x.clean)


@rule("cat", "concat", "concatenate")
def cat(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Tensors one after the other."""
    labs = [x for x in args[0] if not (len(x.shape) == 1 and x.shape[0] == 0)]
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % len(labs[0].shape)
    return ctx.move(node, labs, lambda ts: torch.cat(_common(ts, dim), dim), spread=(dim,))


def _common(tensors: Sequence[Tensor], dim: int) -> list[Tensor]:
    """Expand to equal sizes along every dimension but `dim`."""
    sizes = [max(t.shape[d] for t in tensors) for d in range(tensors[0].dim())]
    return [t.expand([t.shape[d] if d == dim else sizes[d] for d in range(t.dim())]) for t in tensors]


@rule("stack")
def stack(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Tensors side by side along a new dimension."""
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % (len(args[0][0].shape) + 1)
    return ctx.move(node, list(args[0]), lambda ts: torch.stack(list(torch.broadcast_tensors(*ts)), dim), spread=())


@rule("chunk", "split", "split_with_sizes", "tensor_split", "unsafe_chunk", "unsafe_split")
def split(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Consecutive parts along a dimension; equal parts stay equal."""
    x = args[0]
    dim = (args[2] if len(args) > 2 else kwargs.get("dim", 0)) % len(x.shape)
    sizes = [static_shape(node, i)[dim] for i in range(len(node.meta["val"]))]
    along = x.fields_along(dim)
    if not ctx.narrow and len(set(sizes)) == 1 and short(node) != "split_with_sizes":
        for f in along:
            if f.dims == (dim,):
                ctx.equal_counts([p.reshape(-1) for p in f.labels.split(sizes, dim)], node)
    if ctx.narrow and along:
        parts = [list(range(sum(sizes[:i]), sum(sizes[: i + 1]))) for i in range(len(sizes))]
        if not in_order(ctx, node, x, dim):
            return pick(ctx, node, x, dim, parts)
        keep = ctx.kept_along(_argument(node), dim)
        new = [int(keep[part].sum()) for part in parts]
        if len(set(new)) > 1 or "chunk" not in short(node):
            ctx.rewrite(node, (node.args[0], new, dim), torch.ops.aten.split_with_sizes.default)
        sizes = new
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [
        ctx.move(node, [x], lambda ts, a=a, n=n: ts[0].narrow(dim, a, n), index=i, spread=(dim,))  # type: ignore[misc]
        for i, (a, n) in enumerate(zip(starts, sizes, strict=True))
    ]


@rule("slice", "narrow")
def slice_(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A range along a dimension, its ends counted in kept channels."""
    x = args[0]
    dim, start, end, step = ([*args[1:], None, None, None, None])[:4]
    dim = (dim or 0) % len(x.shape)
    size = static_shape(_argument(node))[dim]
    if short(node) == "narrow":
        start, end, step = start, start + end, 1
    start, end, _ = slice(start, None if end is None or end > size else end).indices(size)
    step = 1 if step is None else step
    if x.fields_along(dim) and (step != 1 or not in_order(ctx, node, x, dim)):
        return pick(ctx, node, x, dim, [list(range(start, end, step))])[0]
    if ctx.narrow and x.fields_along(dim):
        keep = ctx.kept_along(_argument(node), dim)
        begin, stop = int(keep[:start].sum()), int(keep[:end].sum())
        if (begin, stop) != (start, end):
            last = stop - begin if short(node) == "narrow" else stop
            ctx.rewrite(node, (node.args[0], dim, begin, last))
        start, end = begin, stop
    index = [slice(None)] * len(x.shape)
    index[dim] = slice(start, end, step)
    return ctx.move(node, [x], lambda ts: ts[0][tuple(index)], spread=(dim,))


@rule("select")
def select(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One position along a dimension."""
    x, dim, index = args
    dim %= len(x.shape)
    index %= static_shape(_argument(node))[dim]
    if ctx.narrow and x.fields_along(dim):
        keep = ctx.kept_along(_argument(node), dim)
        if not bool(keep[index]):
            raise Mismatch(node, f"position {index} is gone")
        if not in_order(ctx, node, x, dim):
            raise Mismatch(node, "one channel of several that arrive in another order")
        new = int(keep[:index].sum())
        if new != index:
            ctx.rewrite(node, (node.args[0], dim, new))
        index = new
    return ctx.move(node, [x], lambda ts: ts[0].select(dim, index), spread=(dim,))


def in_order(ctx: Context, node: Node, x: Lab, dim: int) -> bool:
    """Whether the channels of a narrow value stand as in the dense one, less those that are dropped."""
    if not ctx.narrow:
        return True
    dense = ctx.dense_value(_argument(node)).fields_along(dim)
    here = x.fields_along(dim)
    if len(dense) != 1 or len(here) != 1 or here[0].dims != (dim,) or dense[0].dims != (dim,):
        return True
    at = ctx.locate(dense[0].labels.reshape(-1), here[0].labels.reshape(-1), node)
    return bool((at == torch.arange(at.numel())).all())


def pick(ctx: Context, node: Node, x: Lab, dim: int, parts: Sequence[Sequence[int]]) -> list[Lab]:
    """Positions along a dimension, given one by one; the narrow network picks those that are kept.

    One result for each of `parts`; positions are those of the dense value.
    """
    several = isinstance(node.meta["val"], (list, tuple))
    chosen = [torch.tensor(part, dtype=torch.int64) for part in parts]
    if ctx.narrow:
        dense, here = ctx.dense_value(_argument(node)).fields_along(dim), x.fields_along(dim)
        if len(dense) != 1 or dense[0].dims != (dim,) or here[0].dims != (dim,):
            raise Mismatch(node, "picks positions that several channels share")
        labels = dense[0].labels.reshape(-1)
        keep, where = ctx.keeps(labels), torch.full(labels.shape, NONE)
        where[keep] = ctx.locate(labels, here[0].labels.reshape(-1), node)
        chosen = [where[part][keep[part]] for part in chosen]
        lists: list[Any] = [part.tolist() for part in chosen]
        ctx.rewrite(node, (node.args[0], dim, lists if several else lists[0]), PICK)
    return [
        ctx.move(node, [x], lambda ts, at=at: ts[0].index_select(dim, at), index=i if several else None,  # type: ignore[misc]
                 spread=(dim,))
        for i, at in enumerate(chosen)
    ]


@rule("unbind")
def unbind(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Every position along a dimension; all must stay."""
    x = args[0]
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % len(x.shape)
    count = len(node.meta["val"])
    if x.shape[dim] != count:
        raise Mismatch(node, "unbinds a dimension that is cut")
    return [ctx.move(node, [x], lambda ts, i=i: ts[0].select(dim, i), index=i, spread=(dim,))  # type: ignore[misc]
            for i in range(count)]


@rule("pixel_shuffle", "pixel_unshuffle", "repeat_interleave", "repeat", "tile", "im2col", "roll")
def run(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run the operator as it is on labels (as floats, zero meaning no channel)."""
    target: Any = node.target
    if short(node) == "roll":
        dims = args[2] if len(args) > 2 else []
        if not dims or any(args[0].fields_along(d % len(args[0].shape)) for d in dims):
            return ctx.give_up(node, [args[0]], "roll of channels")
    if any(isinstance(a, Lab) for a in args[1:]):
        return ctx.give_up(node, [a for a in args if isinstance(a, Lab)], f"{short(node)} by a tensor")

    def move(tensors: Sequence[Tensor]) -> Tensor:
        out: Tensor = target((tensors[0] + 1).double(), *args[1:], **kwargs)
        return out.round().long() + NONE

    return ctx.move(node, [args[0]], move)


@rule("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`[groups, n]` channels to `[n, groups]`: each group keeps as many."""
    x, groups = args[:2]
    for f in x.fields_along(1):
        if f.dims == (1,) and not ctx.narrow:
            ctx.equal_counts(list(f.labels.reshape(groups, -1)), node)
    if x.shape[1] % groups:
        raise Mismatch(node, f"{x.shape[1]} channels do not divide into {groups} groups")

    def move(tensors: Sequence[Tensor]) -> Tensor:
        t = tensors[0]
        parts = t.reshape(t.shape[0], groups, -1, *t.shape[2:])
        return parts.transpose(1, 2).reshape(t.shape)

    return ctx.move(node, [x], move, spread=(1,))


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
        return Lab(ctx.shape(node, x.fields), x.fields, x.clean) if rank == len(x.shape) else ctx.give_up(
            node, labs, f"{short(node)} by a tensor of several dimensions")
    value = ctx.constant(by)
    if value is None or value.dim() != 1 or value.is_floating_point() or value.dtype == torch.bool:
        return ctx.give_up(node, labs, f"{short(node)} picks channels by a tensor that is no constant")
    size = static_shape(_argument(node))[dim]
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
    size = static_shape(_argument(node))[dim]
    start, end, _ = slice(start, None if end is None or end > size else end).indices(size)
    inside = bool(x.fields_along(dim) or part.fields_along(dim))
    if step != 1 or (inside and not in_order(ctx, node, x, dim)):
        return ctx.give_up(node, [x, part], "writes into every n-th channel")
    if ctx.narrow and inside:
        keep = ctx.kept_along(_argument(node), dim)
        start, end = int(keep[:start].sum()), int(keep[:end].sum())
        if part.shape[dim] != end - start:
            raise Mismatch(node, f"{part.shape[dim]} channels are written over {end - start}")
        ctx.rewrite(node, (*node.args[:2], dim, start, end))
    if not inside and (start, end) != (0, size):
        return binary(ctx, node, x, part)
    parts = [_between(x, dim, 0, start), part, _between(x, dim, end, x.shape[dim])]
    return ctx.move(node, [p for p in parts if p.shape[dim]], lambda ts: torch.cat(_common(ts, dim), dim),
                    spread=(dim,))


def binary(ctx: Context, node: Node, a: Lab, b: Lab) -> Any:
    """Two tensors side by side over space: as in a sum, their channels are the same."""
    from .elementwise import pair

    return pair(ctx, node, a, b, product=False)


def _between(x: Lab, dim: int, start: int, end: int) -> Lab:
    """A range of a value, as labels."""
    fields = tuple(Field(f.labels.narrow(dim, start, end - start), f.dims) if dim in f.dims else f for f in x.fields)
    return Lab((*x.shape[:dim], end - start, *x.shape[dim + 1 :]), fields, x.clean)


@rule("copy")
def copy(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The second tensor in the first one's shape."""
    source = args[1]
    if len(source.shape) != len(static_shape(node)):
        return ctx.give_up(node, [a for a in args if isinstance(a, Lab)], "copy of another rank")
    fields = source.fields
    return Lab(ctx.shape(node, fields), fields, source.clean)


def _argument(node: Node) -> Node:
    first = node.args[0]
    assert isinstance(first, Node)
    return first
