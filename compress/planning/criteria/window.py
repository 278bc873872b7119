"""The middle channels: for methods that learn their filters anew, where it does not matter which stay."""

from __future__ import annotations

import numpy as np

from compress.graph import ChannelGraph
from compress.planning.criteria.base import CRITERIA, Scores


class Window:
    """The same score for every channel, so that the middle ones of each group stay.

    Example:
        >>> import compress, torch
        >>> graph = compress.trace(compress.build("vgg_small", 10, (3, 32, 32)), torch.zeros(2, 3, 32, 32))
        >>> set(Window().score(graph, seed=0).tolist())
        {0.0}
    """

    for_free_pads = True

    def score(self, graph: ChannelGraph, seed: int) -> Scores:
        """Return zeros, `[channels]`; `seed` is not used."""
        return np.zeros(graph.channels.count)


CRITERIA.register("window")(Window())
