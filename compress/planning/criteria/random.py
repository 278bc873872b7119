"""Random scores: the baseline that every criterion should beat."""

from __future__ import annotations

import numpy as np

from compress.graph import ChannelGraph
from compress.planning.criteria.base import CRITERIA, Scores


class RandomScore:
    """A random number for each channel.

    Example:
        >>> import compress, torch
        >>> graph = compress.trace(compress.build("vgg_small", 10, (3, 32, 32)), torch.zeros(2, 3, 32, 32))
        >>> bool((RandomScore().score(graph, seed=1) == RandomScore().score(graph, seed=1)).all())
        True
    """

    for_free_pads = False

    def score(self, graph: ChannelGraph, seed: int) -> Scores:
        """Return uniform numbers in [0, 1), `[channels]`, the same for the same seed."""
        return np.random.default_rng(seed).random(graph.channels.count)


CRITERIA.register("random")(RandomScore())
