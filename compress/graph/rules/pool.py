"""Pooling and resampling: each channel by itself, over space."""

from __future__ import annotations

from typing import Any

from torch.fx import Node

from compress.graph.context import Context, static_shape
from compress.graph.labels import NONE, Field, Lab, vector
from compress.graph.rules import rule


@rule(
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "_adaptive_avg_pool2d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "max_pool2d_with_indices",
    "lp_pool2d",
    "upsample_nearest1d",
    "upsample_nearest2d",
    "upsample_nearest3d",
    "_upsample_nearest_exact2d",
    "upsample_bilinear2d",
    "upsample_bicubic2d",
    "_upsample_bilinear2d_aa",
    "_upsample_bicubic2d_aa",
    "upsample_linear1d",
    "upsample_trilinear3d",
    "grid_sampler",
    "grid_sampler_2d",
)
def pool(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Channels go through; zero stays zero."""
    x = args[0]
    several = isinstance(node.meta["val"], (tuple, list))
    rank = len(static_shape(node, 0 if several else None))
    channels = ctx.vector(x, 1, node)
    fields: tuple[Field, ...] = () if bool((channels == NONE).all()) else (vector(channels, rank, 1),)
    out = Lab(ctx.shape(node, fields, 0 if several else None), fields, x.clean)
    return [out, Lab(out.shape)] if several else out
