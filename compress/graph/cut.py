"""From a mask over channels to the indices of every parameter that stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.fx import Node

from compress.graph.labels import NONE
from compress.graph.narrow_pass import NarrowPass
from compress.graph.propagation import propagate_labels
from compress.graph.rule_context import ChannelMismatch
from compress.graph.slice_plan import FOLD, Kept

if TYPE_CHECKING:
    from compress.graph.channel_graph import ChannelGraph

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Cut:
    """What a mask leaves of each parameter; the fields are those of `SlicePlan`.

    Attributes:
        kept, masked, widths: see `SlicePlan`.
        rewrites: new arguments of all nodes with constants that the cut changes.
    """

    kept: Kept
    masked: Kept
    widths: dict[str, tuple[int, int]]
    rewrites: dict[str, list[Any]]

    def needs_rewrites(self, graph: ChannelGraph) -> bool:
        """Return whether a constant other than a convolution module's group count has to change."""
        return bool(self.rewrites.keys() - _adjusted_by_slicing(graph))


def cut_graph(graph: ChannelGraph, mask: Mask) -> Cut:
    """Follow the network that keeps the channels of `mask`, bool `[channels]`.

    Raises:
        ChannelMismatch: it cannot be cut so and still compute what the masked network computes.
    """
    facts, channels = graph.facts, graph.channels
    keep = mask[channels.of_label]
    narrow = NarrowPass(facts.registry, facts, graph.values, graph.single_channels, keep)
    if not mask.all():
        _check_ties(graph, mask)
        propagate_labels(graph.program, narrow, graph.computed)
    kept = narrow.kept()
    rewrites = {name: [str(target), plain(args)] for name, (target, args) in narrow.rewrites.items()}
    return Cut(
        kept=kept,
        masked=_masked(graph, mask),
        widths={g.name: (int(mask[g.channels].sum()), g.width) for g in graph.groups},
        rewrites=_with_computed_weights(graph, kept, rewrites),
    )


def _adjusted_by_slicing(graph: ChannelGraph) -> frozenset[str]:
    """Nodes of convolution modules: slicing sets their group count, so no constant has to change."""
    modules = {
        f"{name}.weight"
        for name, m in graph.model.named_modules(remove_duplicate=False)
        if isinstance(m, nn.modules.conv._ConvNd)
    }
    return frozenset(term.node for term in graph.facts.terms if term.weight in modules)


def _with_computed_weights(
    graph: ChannelGraph, kept: Kept, rewrites: dict[str, list[Any]]
) -> dict[str, list[Any]]:
    """The rewrites, with those weights folded whose computation does not survive the cut."""
    out = dict(rewrites)
    for weight in graph.computed.values():
        if any(dim in kept.get(weight.name, {}) for dim in weight.mixed):
            for node in weight.inner:
                out.pop(node.name, None)
            out[weight.root.name] = [FOLD, [weight.name]]
    return out


def _check_ties(graph: ChannelGraph, mask: Mask) -> None:
    for tie in graph.channels.ties:
        counts = {int((mask[row] | (row == NONE)).sum()) for row in tie.rows}
        if len(counts) > 1:
            node = next(n for n in graph.program.graph.nodes if n.name == tie.node)
            raise ChannelMismatch(node, "equally many channels cannot be kept in each part")


def _masked(graph: ChannelGraph, mask: Mask) -> dict[str, dict[int, list[Any]]]:
    """Rows of layers, biases and norm parameters that are zero in the masked dense network."""
    registry = graph.facts.registry
    reads = np.zeros(registry.size, dtype=bool)
    for labels in graph.facts.input_labels:
        reads[labels[labels != NONE]] = True
    out: dict[str, dict[int, list[Any]]] = {}
    for name, dim, start, width in registry.dims():
        own = slice(start, start + width)
        dropped = ~mask[graph.channels.of_label[own]] & ~reads[own]
        if dropped.any():
            out.setdefault(name, {})[dim] = [int(i) for i in np.flatnonzero(dropped)]
    return out


def plain(args: Any) -> Any:
    """Return node arguments as JSON values: other nodes by name."""
    if isinstance(args, Node):
        return {"node": args.name}
    if isinstance(args, (list, tuple)):
        return [plain(a) for a in args]
    return args if isinstance(args, (int, float, str, bool, type(None))) else str(args)


__all__ = ["Cut", "Mask", "cut_graph", "plain"]
