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

from compress.graph.labels import NONE, LabeledTensor, broadcast
from compress.graph.operators import RULES, operator_name
from compress.graph.rule_context import ChannelMismatch, RuleContext, static_shape, unlabeled


@RULES.register("reshape")
def reshape(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The same elements in another shape."""
    x = args[0]
    if not x.fields:
        return unlabeled(node)
    shape = narrow_shape(context, node) if context.narrow else static_shape(node)
    if math.prod(shape) != math.prod(x.shape):
        raise ChannelMismatch(node, f"{x.shape} does not fill {shape}")
    out = context.move(node, [x], lambda ts: ts[0].reshape(shape))
    if context.narrow and shape != static_shape(node):
        _rewrite_sizes(context, node, shape)
    elif not context.narrow:
        for f in out.fields:
            if len(f.dims) > 1:
                context.require_full_block(node, f)
    return out


def _rewrite_sizes(context: RuleContext, node: Node, shape: Sequence[int]) -> None:
    """Sizes that were baked in, with the symbolic ones (the batch) left alone."""
    sizes = node.args[1] if len(node.args) > 1 else None
    name = operator_name(node)
    if name == "unflatten":
        first = int(node.args[1])  # type: ignore[arg-type]
        given = list(node.args[2])  # type: ignore[arg-type]
        context.rewrite(node, (node.args[0], first, list(shape[first % len(shape) :][: len(given)])))
    elif name in ("view", "reshape", "_unsafe_view") and isinstance(sizes, (list, tuple)):
        new = [s if isinstance(s, Node) or s == -1 else n for s, n in zip(sizes, shape, strict=True)]
        context.rewrite(node, (node.args[0], new))


def narrow_shape(context: RuleContext, node: Node, index: int | None = None) -> tuple[int, ...]:
    """The shape of a node's value when the dropped channels are gone."""
    dense = context.dense_value(node)
    labeled: LabeledTensor = dense if index is None else dense[index]
    shape = list(labeled.shape)
    for f in labeled.fields:
        keep = context.is_kept(f.labels)
        sizes = {d: int(keep.movedim(d, 0).reshape(keep.shape[d], -1).any(1).sum()) for d in f.dims}
        total = int(keep.sum())
        if math.prod(sizes.values()) != total:
            carrier = f.dims[-1]
            rest = math.prod(size for d, size in sizes.items() if d != carrier)
            if not rest or total % rest:
                raise ChannelMismatch(node, f"{total} channels do not divide into {rest}")
            sizes[carrier] = total // rest
        for d, size in sizes.items():
            shape[d] = size
    return tuple(shape)


@RULES.register("permute")
def permute(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Dimensions in another order."""
    target: Any = node.target
    return context.move(node, [args[0]], lambda ts: target(ts[0], *args[1:], **kwargs), spread=())


@RULES.register("expand")
def expand(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Repeat along dimensions of size 1: the labels do not vary there."""
    x = args[0]
    shape = static_shape(node)
    shift = len(shape) - len(x.shape)
    out = context.move(node, [x], lambda ts: ts[0].reshape([1] * shift + list(ts[0].shape)), spread=())
    if context.narrow and out.fields and isinstance(node.args[1], (list, tuple)):
        new = context.shape(node, out.fields)
        context.rewrite(
            node,
            (
                node.args[0],
                [s if isinstance(s, Node) or s == -1 else n for s, n in zip(node.args[1], new, strict=True)],
            ),
        )
    return LabeledTensor(context.shape(node, out.fields), out.fields, x.zero_when_dropped)


@RULES.register("concatenate")
def cat(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Tensors one after the other."""
    operands = [x for x in args[0] if not (len(x.shape) == 1 and x.shape[0] == 0)]
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % len(operands[0].shape)
    return context.move(node, operands, lambda ts: torch.cat(common(ts, dim), dim), spread=(dim,))


def common(tensors: Sequence[Tensor], dim: int) -> list[Tensor]:
    """Expand to equal sizes along every dimension but `dim`."""
    sizes = [max(t.shape[d] for t in tensors) for d in range(tensors[0].dim())]
    return [t.expand([t.shape[d] if d == dim else sizes[d] for d in range(t.dim())]) for t in tensors]


@RULES.register("stack")
def stack(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Tensors side by side along a new dimension."""
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % (len(args[0][0].shape) + 1)
    return context.move(node, list(args[0]), lambda ts: torch.stack(broadcast(ts), dim), spread=())


@RULES.register("run_on_labels")
def run(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run the operator as it is on labels (as floats, zero meaning no channel)."""
    target: Any = node.target
    if operator_name(node) == "roll":
        dims = args[2] if len(args) > 2 else []
        if not dims or any(args[0].fields_along(d % len(args[0].shape)) for d in dims):
            return context.protect_all(node, [args[0]], "roll of channels")
    if any(isinstance(a, LabeledTensor) for a in args[1:]):
        return context.protect_all(
            node, [a for a in args if isinstance(a, LabeledTensor)], f"{operator_name(node)} by a tensor"
        )

    def move(tensors: Sequence[Tensor]) -> Tensor:
        out: Tensor = target((tensors[0] + 1).double(), *args[1:], **kwargs)
        return out.round().long() + NONE

    return context.move(node, [args[0]], move)


@RULES.register("channel_shuffle")
def channel_shuffle(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`[groups, n]` channels to `[n, groups]`: each group keeps as many."""
    x, groups = args[:2]
    for f in x.fields_along(1):
        if f.dims == (1,) and not context.narrow:
            context.equal_counts(list(f.labels.reshape(groups, -1)), node)
    if x.shape[1] % groups:
        raise ChannelMismatch(node, f"{x.shape[1]} channels do not divide into {groups} groups")

    def move(tensors: Sequence[Tensor]) -> Tensor:
        t = tensors[0]
        parts = t.reshape(t.shape[0], groups, -1, *t.shape[2:])
        return parts.transpose(1, 2).reshape(t.shape)

    return context.move(node, [x], move, spread=(1,))


@RULES.register("copy")
def copy(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The second tensor in the first one's shape."""
    source = args[1]
    if len(source.shape) != len(static_shape(node)):
        return context.protect_all(
            node, [a for a in args if isinstance(a, LabeledTensor)], "copy of another rank"
        )
    fields = source.fields
    return LabeledTensor(context.shape(node, fields), fields, source.zero_when_dropped)
