"""Pooling and resampling: each channel by itself, over space."""

from __future__ import annotations

from typing import Any

from torch.fx import Node

from compress.graph.labels import NONE, LabeledTensor, LabelField, field_along
from compress.graph.operators import RULES
from compress.graph.rule_context import RuleContext, static_shape


@RULES.register("pool")
def pool(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Channels go through; zero stays zero."""
    x = args[0]
    several = isinstance(node.meta["val"], (tuple, list))
    rank = len(static_shape(node, 0 if several else None))
    channels = context.labels_along(x, 1, node)
    fields: tuple[LabelField, ...] = (
        () if bool((channels == NONE).all()) else (field_along(channels, rank, 1),)
    )
    out = LabeledTensor(context.shape(node, fields, 0 if several else None), fields, x.zero_when_dropped)
    return [out, LabeledTensor(out.shape)] if several else out
