"""Normalisation layers.

A mask acts on a norm's affine output, so a norm with affine parameters makes dropped channels zero again.
"""

from __future__ import annotations

from typing import Any

from torch.fx import Node

from ..context import Context, short
from ..labels import Lab
from . import rule


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
    x, normalized = args[0], args[1]
    first = len(x.shape) - len(normalized)
    for f in x.fields:
        if any(d >= first for d in f.dims):
            return ctx.give_up(node, [a for a in args if isinstance(a, Lab)],
                               f"{short(node)} takes statistics across its channels")
    return Lab(x.shape, x.fields, False)


@rule("group_norm", "native_group_norm")
def group_norm(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Statistics across the channels of a group; one channel a group is an instance norm."""
    x = args[0]
    if str(node.target).startswith("aten.group_norm") and args[1] == x.shape[1] and not ctx.narrow:
        ctx.protect(x.labels(), "group norm with one channel a group has its group count fixed")
    return ctx.give_up(node, [a for a in args if isinstance(a, Lab)],
                       f"{short(node)} takes statistics across its channels")
