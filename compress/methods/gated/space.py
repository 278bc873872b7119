"""Search space of a method with gates: the units of a network, their cost, and the plan of a choice."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compress.core.errors import CompressError
from compress.cost import CostModel, cost_model
from compress.graph import ChannelGraph, SlicePlan
from compress.graph.channels import Channels
from compress.graph.labels import NONE
from compress.graph.placement import Branch, Placement
from compress.graph.program import parameter_names
from compress.methods.gated.gates import units
from compress.planning import make_plan
from compress.planning.fit_mask import layers

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Space:
    """The units of a network.

    Attributes:
        graph: its channel graph.
        channels: the graph's channels, or those with the channels of `branches` separated.
        unit_of: unit of each class `[channels]`, -1 for a class that is always kept.
        cost: costs of kept channels.
        layers: the units of each layer.
        branches: layers whose compact output is scattered into a full-width stream.
    """

    graph: ChannelGraph
    channels: Channels
    unit_of: Ints
    cost: CostModel
    layers: tuple[Ints, ...]
    branches: tuple[Branch, ...] = ()

    @property
    def least(self) -> NDArray[np.float64]:
        """Kept channels `[channels]` if every layer has one unit left."""
        first = [group[0] for group in self.layers]
        return ((self.unit_of < 0) | np.isin(self.unit_of, first)).astype(np.float64)

    def plan(self, keep: Bools) -> SlicePlan:
        """Return the plan that keeps these channels `[channels]`.

        Raises:
            CompressError: ``not-available``: scattered branches in a network that is cut in a rewritten copy.
        """
        groups = self.graph.groups
        plan = make_plan(
            self.graph, keep={g.name: [int(i) for i in np.flatnonzero(keep[g.channels])] for g in groups}
        )
        for branch in self.branches:
            start = self.graph.facts.registry.start(*branch.tensors[0])
            own = keep[self.channels.of_label[start : start + branch.width]]
            if not own.all():
                plan = _scatter(plan, branch, own)
        return replace(plan, narrow=self.cost.costs(keep)) if self.branches else plan


def _scatter(plan: SlicePlan, branch: Branch, own: Bools) -> SlicePlan:
    """Cut one branch's own tensors; the width of its output is unchanged."""
    if plan.rewrites:
        raise CompressError(
            f"the output of {branch.module} cannot be scattered in a network whose traced copy is cut",
            hint="use --residual tied or keep",
            code="not-available",
        )
    stays, goes = ([int(i) for i in np.flatnonzero(m)] for m in (own, ~own))
    kept, masked = ({name: dict(dims) for name, dims in part.items()} for part in (plan.kept, plan.masked))
    for name, dim in branch.tensors:
        kept.setdefault(name, {})[dim] = stays
        masked.setdefault(name, {})[dim] = goes
    scattered = {**plan.scattered, branch.module: (stays, branch.width)}
    widths = {**plan.widths, branch.layer: (len(stays), branch.width)}
    return replace(plan, kept=kept, masked=masked, scattered=scattered, widths=widths)


def whole_space(graph: ChannelGraph, fixed: Bools) -> Space:
    """Return the space of the graph's own groups; channels in `fixed` `[channels]` are kept."""
    unit_of = units(graph, fixed)
    groups = layers((g.channels for g in graph.groups), unit_of)
    return Space(graph, graph.channels, unit_of, cost_model(graph), tuple(groups))


def scattered_space(graph: ChannelGraph, place: Placement) -> Space:
    """Return the space with uncut residual streams, in which the last layer of a branch has its own units."""
    inner = whole_space(graph, place.never | place.residual)
    registry, branches = graph.facts.registry, place.branches
    root, count = graph.channels.of_label.copy(), graph.channels.count
    unit_of, unit = inner.unit_of, len(np.unique(inner.unit_of[inner.unit_of >= 0]))
    groups, apart = list(inner.layers), np.zeros(registry.size, dtype=np.bool_)
    for branch in branches:
        for name, dim in branch.tensors:
            start = registry.start(name, dim)
            root[start : start + branch.width] = np.arange(count, count + branch.width)
            apart[start : start + branch.width] = True
        own = np.arange(unit, unit + branch.width)
        unit_of, groups = np.concatenate([unit_of, own]), [*groups, own]
        count, unit = count + branch.width, unit + branch.width
    free = np.concatenate([graph.channels.removable, np.ones(count - graph.channels.count, dtype=np.bool_)])
    channels = Channels(root, count, free, graph.channels.reasons, graph.channels.ties)
    return Space(graph, channels, unit_of, _cost(graph, channels, apart), tuple(groups), branches)


def _cost(graph: ChannelGraph, channels: Channels, apart: Bools) -> CostModel:
    """Return the costs with uncut streams, which some inputs refer to by the labels of their branches."""

    def whole(labels: Ints) -> Ints:
        return np.where((labels != NONE) & apart[labels], NONE, labels)

    facts = replace(
        graph.facts,
        terms=[replace(term, inputs=whole(term.inputs)) for term in graph.facts.terms],
        group_inputs={name: whole(rows) for name, rows in graph.facts.group_inputs.items()},
    )
    return CostModel(facts, channels, _shapes(graph))


def _shapes(graph: ChannelGraph) -> dict[str, tuple[int, ...]]:
    names, signature = parameter_names(graph.program), graph.program.graph_signature
    return {
        names[node.name]: tuple(node.meta["val"].shape)
        for node in graph.program.graph.nodes
        if node.op == "placeholder" and node.name in signature.inputs_to_parameters
    }


__all__ = ["Space", "scattered_space", "whole_space"]
