"""Scale of the norm layers (Liu et al., ICCV 2017, https://arxiv.org/abs/1708.06519)."""

from __future__ import annotations

import numpy as np

from compress.graph import ChannelGraph
from compress.planning.criteria.base import CRITERIA, Scores, labeled_rows


class NormScale:
    """Sum of the absolute scales (`weight`) of the norm layers that a channel passes.

    Example:
        >>> import compress, torch
        >>> graph = compress.trace(compress.build("vgg_small", 10, (3, 32, 32)), torch.zeros(2, 3, 32, 32))
        >>> sorted(set(NormScale().score(graph, seed=0).tolist()))[-1]
        1.0
    """

    for_free_pads = False

    def score(self, graph: ChannelGraph, seed: int) -> Scores:
        """Return the scores, `[channels]`; `seed` is not used."""
        scores = np.zeros(graph.channels.count)
        vectors = {name for name, p in graph.model.named_parameters(remove_duplicate=False) if p.dim() == 1}
        for name, rows, channels, _ in labeled_rows(graph):
            if name in vectors and name.endswith("weight"):
                np.add.at(scores, channels, rows[:, 0].abs().numpy())
        return scores


CRITERIA.register("bn-scale")(NormScale())
