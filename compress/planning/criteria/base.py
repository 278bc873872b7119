"""The interface of a criterion, and the registry of all criteria."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from compress.core.errors import CompressError
from compress.core.registry import Registry
from compress.graph import ChannelGraph
from compress.graph.labels import NONE

Scores = NDArray[np.float64]
"""One number for each channel, `[channels]`; the highest stay."""


class Criterion(Protocol):
    """Ranks the channels of a network.

    Attributes:
        for_free_pads: whether it keeps neighboring channels, as zero-padded shortcuts with free pads need.
    """

    for_free_pads: bool

    def score(self, graph: ChannelGraph, seed: int) -> Scores:
        """Return the score of each channel, `[channels]`; of each group the highest stay.

        Args:
            graph: the traced network with its weights. seed: for criteria that draw random numbers.
        """


CRITERIA: Registry[Criterion] = Registry(
    "criterion",
    group="criteria",
    package="compress.planning.criteria",
    convert=lambda _, made: _instance(made),
)
"""Every criterion by name."""


def list_criteria() -> list[str]:
    """Return the names of all criteria, sorted."""
    return CRITERIA.names()


def get_criterion(criterion: str | Criterion) -> Criterion:
    """Return a criterion by name, or the given object.

    Raises:
        CompressError: (exit 2) ``unknown-criterion``.
    """
    if isinstance(criterion, str):
        return CRITERIA.get_or_raise(criterion)
    if isinstance(criterion, type) or not callable(getattr(criterion, "score", None)):
        raise CompressError(
            f"{criterion!r} is not a criterion",
            hint=f"pass a name ({', '.join(list_criteria())}) or an object with a method score(graph, seed)",
            code="unknown-criterion",
        )
    return criterion


def sum_over_rows(graph: ChannelGraph, norm: Callable[[Tensor], Tensor]) -> Scores:
    """Sum `norm` of the rows `[width, elements]` of all layers that make a channel."""
    scores = np.zeros(graph.channels.count)
    makes = np.zeros(graph.facts.registry.size, dtype=bool)
    for labels in graph.facts.output_labels:
        makes[labels[labels != NONE]] = True
    for _, rows, channels, first in labeled_rows(graph):
        if makes[first]:
            np.add.at(scores, channels, norm(rows).numpy())
    return scores


def labeled_rows(graph: ChannelGraph) -> Iterator[tuple[str, Tensor, NDArray[np.int64], int]]:
    """Yield each labeled dimension of each parameter and buffer.

    Yields:
        The tensor's name, its values as float32 `[width, elements]` on the CPU, the channel of each index
        `[width]`, and the first label.
    """
    model = graph.model
    tensors = {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }
    for name, dim, start, width in graph.facts.registry.dims():
        rows = tensors[name].detach().movedim(dim, 0).reshape(width, -1).float().cpu()
        yield name, rows, graph.channels.of_label[start : start + width], start


def _instance(made: object) -> Criterion:
    criterion = made() if isinstance(made, type) else made
    if not hasattr(criterion, "score"):
        raise TypeError(f"{made!r} has no method score(graph, seed)")
    return criterion  # type: ignore[return-value]


__all__ = [
    "CRITERIA",
    "Criterion",
    "Scores",
    "get_criterion",
    "labeled_rows",
    "list_criteria",
    "sum_over_rows",
]
