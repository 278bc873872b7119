"""MACs and parameters as functions of which channels are kept.

MACs are those of one image, of convolutions, linear layers and matrix products with a weight. The papers
call them FLOPs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.core.spec import Costs
from compress.graph.channel_graph import ChannelGraph
from compress.graph.channels import Channels
from compress.graph.dense_pass import DensePass
from compress.graph.labels import NONE
from compress.graph.program import parameter_names
from compress.graph.rule_context import static_shape

Mask = NDArray[np.bool_]
Counts = NDArray[np.float64]


@dataclass(frozen=True)
class _Side:
    """One dimension: how many of its positions belong to each class, and how many to none."""

    channels: NDArray[np.int64]
    counts: Counts
    fixed: float

    def kept(self, keep: NDArray[np.float64]) -> float:
        """The width that is left; `keep` is 1 or 0 (or anything between) for each class, `[channels]`."""
        return float(self.counts @ keep[self.channels]) + self.fixed


def _side(channels: NDArray[np.int64]) -> _Side:
    real = channels[channels != NONE]
    unique, counts = np.unique(real, return_counts=True)
    return _Side(unique, counts.astype(np.float64), float(channels.size - real.size))


class CostModel:
    """The costs of a network and of every narrow form of it.

    Args:
        dense: facts of the graph's first pass. channels: its channel channels.
        parameters: shape of every parameter (not buffers) by name.
    """

    def __init__(
        self, dense: DensePass, channels: Channels, parameters: Mapping[str, tuple[int, ...]]
    ) -> None:
        self._terms = [
            (t.factor, t.groups, _side(channels.at(t.inputs)), _side(channels.at(t.outputs)))
            for t in dense.terms
        ]
        self.layers = [(t.weight, t.node) for t in dense.terms]
        self._parameters: list[tuple[float, list[_Side]]] = []
        grouped = {name: _side(channels.at(rows.reshape(-1))) for name, rows in dense.group_inputs.items()}
        for name, shape in parameters.items():
            fixed, sides = 1.0, []
            for dim, width in enumerate(shape):
                if dim == 1 and name in grouped:
                    sides.append(grouped[name])
                    fixed /= dense.group_inputs[name].shape[0]
                elif width > 1 and dense.registry.has(name, dim):
                    start = dense.registry.start(name, dim)
                    sides.append(_side(channels.of_label[start : start + width]))
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
        """MACs of one image for `keep` `[channels]`."""
        return sum(self.layer_macs(keep))

    def params(self, keep: NDArray[np.float64]) -> float:
        """Number of parameters for `keep` `[channels]`."""
        total = 0.0
        for fixed, sides in self._parameters:
            size = fixed
            for side in sides:
                size *= side.kept(keep)
            total += size
        return total

    def costs(self, keep: Mask) -> Costs:
        """Both, for a mask `[channels]`."""
        kept = keep.astype(np.float64)
        return Costs(macs=round(self.macs(kept)), params=round(self.params(kept)))


def cost_model(graph: ChannelGraph) -> CostModel:
    """Return the costs of a network as functions of which of its channels are kept; built once."""

    def build() -> CostModel:
        names = parameter_names(graph.program)
        parameters = {
            names[node.name]: static_shape(node)
            for node in graph.program.graph.nodes
            if node.op == "placeholder" and node.name in graph.program.graph_signature.inputs_to_parameters
        }
        return CostModel(graph.facts, graph.channels, parameters)

    return graph.cached("cost", build)


def dense_costs(graph: ChannelGraph) -> Costs:
    """Return the costs of the dense network."""
    return cost_model(graph).costs(np.ones(graph.channels.count, dtype=np.bool_))
