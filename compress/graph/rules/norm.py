"""Normalisation layers.

A mask acts on a norm's affine output, so a norm with affine parameters makes dropped channels zero again.
"""

from __future__ import annotations

from typing import Any

from torch.fx import Node

from compress.graph.labels import NONE, LabeledTensor
from compress.graph.operators import RULES, operator_name
from compress.graph.rule_context import ChannelMismatch, RuleContext, static_shape


@RULES.register("channel_norm")
def channel_norm(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Each channel by itself: its parameters and statistics are cut with it."""
    x, *params = args[:5]
    channels = context.labels_along(x, 1, node)
    affine = params[0] is not None and params[1] is not None
    for param in params:
        if isinstance(param, LabeledTensor) and param.fields:
            context.tie(
                channels,
                context.labels_along(param, 0, node),
                node,
                (param.source, 0) if param.source else None,
            )
    clean = affine or x.zero_when_dropped
    out = LabeledTensor(x.shape, x.fields, clean)
    return out if not str(node.target).startswith("aten._native") else [out, None, None]


@RULES.register("layer_norm")
def layer_norm(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Statistics over the normalized dimensions change with every channel taken out of them."""
    x, normalized, name = args[0], args[1], operator_name(node)
    first = len(x.shape) - len(normalized)
    for f in x.fields:
        if any(d >= first for d in f.dims):
            return context.protect_all(
                node,
                [a for a in args if isinstance(a, LabeledTensor)],
                f"{operator_name(node)} takes statistics across its channels",
            )
    shifts = name == "layer_norm" and (args[3] if len(args) > 3 else kwargs.get("bias")) is not None
    return LabeledTensor(
        x.shape, x.fields, x.zero_when_dropped and not shifts and not name.startswith("native")
    )


@RULES.register("group_norm")
def group_norm(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Statistics across the channels of a group, which stay or go together; their number is rewritten."""
    x = args[0]
    operands = [a for a in (*args, *kwargs.values()) if isinstance(a, LabeledTensor)]
    functional = str(node.target).startswith("aten.group_norm")
    if not functional or args[1] == 1 < static_shape(node)[1]:
        return context.protect_all(
            node, operands, f"{operator_name(node)} takes statistics across its channels"
        )
    each = static_shape(node)[1] // args[1]
    if each > 1:
        channels = context.labels_along(x, 1, node)
        if channels.numel() % each:
            raise ChannelMismatch(node, f"{channels.numel()} channels do not divide into groups of {each}")
        if bool((channels != NONE).any()):
            context.keep_together(channels.view(-1, each), node)
    if context.narrow and x.shape[1] // each != args[1]:
        context.rewrite(node, (node.args[0], x.shape[1] // each, *node.args[2:]))
    weight = args[2] if len(args) > 2 else kwargs.get("weight")
    bias = args[3] if len(args) > 3 else kwargs.get("bias")
    return channel_norm(context, node, (x, weight, bias, None, None), {})


@RULES.register("weight_norm")
def weight_norm(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`g * v / |v|` for each position along one dimension; the others are inside the norm and stay.

    A mask acts on `g`: a direction `v` of zeros has no norm.
    """
    v, g, dim = (*args, 0)[:3]
    rows = [f for f in v.fields if f.dims == (dim,)]
    for f in v.fields:
        if f.dims != (dim,):
            context.protect(f.labels, "a weight norm is taken over them")
    if len(rows) != 1 or not g.source or not v.source:
        return context.protect_all(node, [v, g], "weight norm of computed weights")
    context.tie(rows[0].labels.reshape(-1), context.labels_along(g, dim, node), node, (g.source, dim))
    context.mark_inputs(rows[0].labels)
    return LabeledTensor(v.shape, tuple(v.fields), True)
