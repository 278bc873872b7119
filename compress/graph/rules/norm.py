"""Normalisation layers.

A mask acts on a norm's affine output, so a norm with affine parameters makes dropped channels zero again.
"""

from __future__ import annotations

from typing import Any

from torch.fx import Node

from compress.graph.context import Context, Mismatch, short, static_shape
from compress.graph.labels import NONE, Lab
from compress.graph.rules import rule


@rule("batch_norm", "_native_batch_norm_legit_no_training", "instance_norm", "cudnn_batch_norm")
def channel_norm(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Each channel by itself: its parameters and statistics are cut with it."""
    x, *params = args[:5]
    channels = ctx.vector(x, 1, node)
    affine = params[0] is not None and params[1] is not None
    for param in params:
        if isinstance(param, Lab) and param.fields:
            ctx.tie(channels, ctx.vector(param, 0, node), node, (param.source, 0) if param.source else None)
    clean = affine or x.clean
    out = Lab(x.shape, x.fields, clean)
    return out if not str(node.target).startswith("aten._native") else [out, None, None]


@rule("layer_norm", "native_layer_norm", "rms_norm")
def layer_norm(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Statistics over the normalised dimensions change with every channel taken out of them."""
    x, normalized, name = args[0], args[1], short(node)
    first = len(x.shape) - len(normalized)
    for f in x.fields:
        if any(d >= first for d in f.dims):
            return ctx.give_up(
                node,
                [a for a in args if isinstance(a, Lab)],
                f"{short(node)} takes statistics across its channels",
            )
    shifts = name == "layer_norm" and (args[3] if len(args) > 3 else kwargs.get("bias")) is not None
    return Lab(x.shape, x.fields, x.clean and not shifts and not name.startswith("native"))


@rule("group_norm", "native_group_norm")
def group_norm(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Statistics across the channels of a group, which stay or go together; their number is rewritten."""
    x = args[0]
    labs = [a for a in (*args, *kwargs.values()) if isinstance(a, Lab)]
    functional = str(node.target).startswith("aten.group_norm")
    if not functional or args[1] == 1 < static_shape(node)[1]:
        return ctx.give_up(node, labs, f"{short(node)} takes statistics across its channels")
    each = static_shape(node)[1] // args[1]
    if each > 1:
        channels = ctx.vector(x, 1, node)
        if channels.numel() % each:
            raise Mismatch(node, f"{channels.numel()} channels do not divide into groups of {each}")
        if bool((channels != NONE).any()):
            ctx.together(channels.view(-1, each), node)
    if ctx.narrow and x.shape[1] // each != args[1]:
        ctx.rewrite(node, (node.args[0], x.shape[1] // each, *node.args[2:]))
    weight = args[2] if len(args) > 2 else kwargs.get("weight")
    bias = args[3] if len(args) > 3 else kwargs.get("bias")
    return channel_norm(ctx, node, (x, weight, bias, None, None), {})


@rule("_weight_norm")
def weight_norm(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`g * v / |v|` for each position along one dimension; the others are inside the norm and stay.

    A mask acts on `g`: a direction `v` of zeros has no norm.
    """
    v, g, dim = (*args, 0)[:3]
    rows = [f for f in v.fields if f.dims == (dim,)]
    for f in v.fields:
        if f.dims != (dim,):
            ctx.protect(f.labels, "a weight norm is taken over them")
    if len(rows) != 1 or not g.source or not v.source:
        return ctx.give_up(node, [v, g], "weight norm of computed weights")
    ctx.tie(rows[0].labels.reshape(-1), ctx.vector(g, dim, node), node, (g.source, dim))
    ctx.consume(rows[0].labels)
    return Lab(v.shape, tuple(v.fields), True)
