"""L1 norm of the filters (Li et al., ICLR 2017, https://arxiv.org/abs/1608.08710)."""

from __future__ import annotations

from compress.graph import ChannelGraph
from compress.planning.criteria.base import CRITERIA, Scores, sum_over_rows


class L1Norm:
    """Sum of the absolute weights of all filters that make a channel.

    Example:
        >>> import compress, torch
        >>> graph = compress.trace(compress.build("vgg_small", 10, (3, 32, 32)), torch.zeros(2, 3, 32, 32))
        >>> bool((L1Norm().score(graph, seed=0) >= 0).all())
        True
    """

    for_free_pads = False

    def score(self, graph: ChannelGraph, seed: int) -> Scores:
        """Return the scores, `[channels]`; `seed` is not used."""
        return sum_over_rows(graph, lambda rows: rows.abs().sum(1))


CRITERIA.register("l1")(L1Norm())
