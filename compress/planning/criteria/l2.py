"""L2 norm of the filters."""

from __future__ import annotations

import torch

from compress.graph import ChannelGraph
from compress.planning.criteria.base import CRITERIA, Scores, sum_over_rows


class L2Norm:
    """Sum of the Euclidean norms of all filters that make a channel.

    Example:
        >>> import compress, torch
        >>> graph = compress.trace(compress.build("vgg_small", 10, (3, 32, 32)), torch.zeros(2, 3, 32, 32))
        >>> bool((L2Norm().score(graph, seed=0) >= 0).all())
        True
    """

    for_free_pads = False

    def score(self, graph: ChannelGraph, seed: int) -> Scores:
        """Return the scores, `[channels]`; `seed` is not used."""
        return sum_over_rows(graph, lambda rows: torch.linalg.vector_norm(rows, dim=1))


CRITERIA.register("l2")(L2Norm())
