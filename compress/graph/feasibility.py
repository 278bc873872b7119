"""Find what cannot be cut, by one trial cut to half of every group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compress.graph.cut import Mask, cut_graph
from compress.graph.rule_context import ChannelMismatch
from compress.graph.width_choices import Counts

if TYPE_CHECKING:
    from compress.graph.channel_graph import ChannelGraph

Scores = NDArray[np.float64]


def protect_infeasible(graph: ChannelGraph) -> None:
    """Protect what a network of half the width cannot follow, until a cut succeeds."""
    while True:
        if graph.free_pads:
            scores = np.zeros(graph.channels.count)
        else:
            scores = np.random.default_rng(0).random(graph.channels.count)
        half = [choice.levels()[choice.at(0.5)] for choice in graph.width_choices]
        try:
            cut_graph(graph, keep_best(graph, half, scores))
        except ChannelMismatch as mismatch:
            graph.protect_at(mismatch)
        else:
            return


def keep_best(graph: ChannelGraph, counts: Sequence[Counts], scores: Scores) -> Mask:
    """Return the mask, bool `[channels]`, that keeps the best channels of every part.

    Args:
        counts: channels to keep in each part of each width choice. scores: of each channel, `[channels]`.
    """
    mask = np.ones(graph.channels.count, dtype=np.bool_)
    for choice, chosen in zip(graph.width_choices, counts, strict=True):
        for (g, p), count in zip(choice.parts, chosen, strict=True):
            part = graph.groups[g].parts[p]
            mask[part] = False
            mask[best_of(scores, part, count)] = True
    return mask


def best_of(scores: Scores, part: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the `count` channels of a part with the highest scores; the middle ones if all are equal."""
    s = scores[part]
    return part[_middle(len(part), count) if (s == s[0]).all() else np.argsort(-s, kind="stable")[:count]]


def _middle(width: int, count: int) -> NDArray[np.int64]:
    """The middle positions; aligned so that zero-padded shortcuts of halved widths line up."""
    start = width // 2 - count // 2
    start = min(max(start, 0), width - count)
    return np.arange(start, start + count)


__all__ = ["best_of", "keep_best", "protect_infeasible"]
