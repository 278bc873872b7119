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

from compress.graph.context import Context, Mismatch, short, static_shape, unlabelled
from compress.graph.labels import NONE, Lab, broadcast
from compress.graph.rules import rule


@rule(
    "view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as"
)
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
        ctx.rewrite(
            node,
            (
                node.args[0],
                [s if isinstance(s, Node) or s == -1 else n for s, n in zip(node.args[1], new, strict=True)],
            ),
        )
    return Lab(ctx.shape(node, out.fields), out.fields, x.clean)


@rule("cat", "concat", "concatenate")
def cat(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Tensors one after the other."""
    labs = [x for x in args[0] if not (len(x.shape) == 1 and x.shape[0] == 0)]
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % len(labs[0].shape)
    return ctx.move(node, labs, lambda ts: torch.cat(common(ts, dim), dim), spread=(dim,))


def common(tensors: Sequence[Tensor], dim: int) -> list[Tensor]:
    """Expand to equal sizes along every dimension but `dim`."""
    sizes = [max(t.shape[d] for t in tensors) for d in range(tensors[0].dim())]
    return [t.expand([t.shape[d] if d == dim else sizes[d] for d in range(t.dim())]) for t in tensors]


@rule("stack")
def stack(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Tensors side by side along a new dimension."""
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % (len(args[0][0].shape) + 1)
    return ctx.move(node, list(args[0]), lambda ts: torch.stack(broadcast(ts), dim), spread=())


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


@rule("copy")
def copy(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The second tensor in the first one's shape."""
    source = args[1]
    if len(source.shape) != len(static_shape(node)):
        return ctx.give_up(node, [a for a in args if isinstance(a, Lab)], "copy of another rank")
    fields = source.fields
    return Lab(ctx.shape(node, fields), fields, source.clean)
