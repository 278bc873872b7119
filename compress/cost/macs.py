"""Multiply-accumulates and parameters as functions of which channels are kept.

MACs are those of one image, of convolutions, linear layers and matrix products with a weight. The papers
call them FLOPs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.core.spec import Costs
from compress.graph.classes import Classes
from compress.graph.context import Dense
from compress.graph.labels import NONE

Mask = NDArray[np.bool_]
Counts = NDArray[np.float64]


@dataclass(frozen=True)
class _Side:
    """One dimension: how many of its positions belong to each class, and how many to none."""

    classes: NDArray[np.int64]
    counts: Counts
    fixed: float

    def kept(self, keep: NDArray[np.float64]) -> float:
        """The width that is left; `keep` is 1 or 0 (or anything between) for each class, `[classes]`."""
        return float(self.counts @ keep[self.classes]) + self.fixed


def _side(classes: NDArray[np.int64]) -> _Side:
    real = classes[classes != NONE]
    unique, counts = np.unique(real, return_counts=True)
    return _Side(unique, counts.astype(np.float64), float(classes.size - real.size))


class CostModel:
    """The costs of a network and of every narrow form of it.

    Args:
        dense: facts of the graph's first pass. classes: its channel classes.
        parameters: shape of every parameter (not buffers) by name.
    """

    def __init__(self, dense: Dense, classes: Classes, parameters: Mapping[str, tuple[int, ...]]) -> None:
        self._terms = [
            (t.factor, t.groups, _side(classes.of(t.inputs)), _side(classes.of(t.outputs)))
            for t in dense.terms
        ]
        self.layers = [(t.weight, t.node) for t in dense.terms]
        self._parameters: list[tuple[float, list[_Side]]] = []
        grouped = {name: _side(classes.of(rows.reshape(-1))) for name, rows in dense.groups.items()}
        for name, shape in parameters.items():
            fixed, sides = 1.0, []
            for dim, width in enumerate(shape):
                if dim == 1 and name in grouped:
                    sides.append(grouped[name])
                    fixed /= dense.groups[name].shape[0]
                elif width > 1 and dense.registry.has(name, dim):
                    start = dense.registry.start(name, dim)
                    sides.append(_side(classes.root[start : start + width]))
                else:
                    fixed *= width
            self._parameters.append((fixed, sides))

    def layer_macs(self, keep: NDArray[np.float64]) -> list[float]:
        """MACs of each layer, in the order of `layers`."""
        out = []
        for factor, groups, inputs, outputs in self._terms:
            width = 1.0 if groups == 0 else inputs.kept(keep) / groups
            out.append(factor * width * outputs.kept(keep))
        return out

    def macs(self, keep: NDArray[np.float64]) -> float:
        """MACs of one image for `keep` `[classes]`."""
        return sum(self.layer_macs(keep))

    def params(self, keep: NDArray[np.float64]) -> float:
        """Number of parameters for `keep` `[classes]`."""
        total = 0.0
        for fixed, sides in self._parameters:
            size = fixed
            for side in sides:
                size *= side.kept(keep)
            total += size
        return total

    def costs(self, keep: Mask) -> Costs:
        """Both, for a mask `[classes]`."""
        kept = keep.astype(np.float64)
        return Costs(macs=round(self.macs(kept)), params=round(self.params(kept)))
