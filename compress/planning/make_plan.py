"""Make a plan: what to keep of each channel group for a ratio, a width or a cost target."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from compress.core.errors import CompressError
from compress.cost import cost_model, dense_costs
from compress.graph import ChannelGraph, SlicePlan
from compress.graph.cut import Mask, cut_graph
from compress.graph.rule_context import ChannelMismatch
from compress.planning.criteria import Criterion
from compress.planning.forward_check import with_needed_rewrites
from compress.planning.selection import select


def make_plan(
    graph: ChannelGraph,
    keep: float | Mapping[str, float | int | Sequence[int]] | None = None,
    *,
    macs: float | None = None,
    params: float | None = None,
    align: int = 1,
    min_width: int = 1,
    criterion: str | Criterion = "l1",
    seed: int = 0,
    whole: Collection[str] = (),
) -> SlicePlan:
    """Choose what to keep of a network; give exactly one of `keep`, `macs` and `params`.

    Channels that turn out not to be cut exactly are protected in `graph`, with the reason, and the choice is
    made again.

    Args:
        graph: from `compress.trace`.
        keep: a ratio for every group; or, by group name or pattern (`"layer1.*"`), a ratio (float), a width
            (int) or the indices to keep (groups not named stay whole).
        macs: fraction of the dense network's MACs (at most 1) or an absolute number (above 1), met by one
            ratio for all groups and single channels for the rest.
        params: the same for its parameters.
        align: widths are multiples of this where the group is wide enough.
        min_width: no group becomes narrower (unless it is already).
        criterion: which channels stay: a name of `compress.list_criteria()`, or an object with `score`.
        seed: for criteria that draw random numbers.
        whole: names of groups that stay whole whatever the ratio or the target.

    Raises:
        CompressError: (exit 2) unknown group or criterion, ratio out of range, target out of reach; with the
            smallest reachable value.

    Example:
        >>> import compress, torch
        >>> graph = compress.trace(compress.build("vgg_small", 10, (3, 32, 32)), torch.zeros(2, 3, 32, 32))
        >>> plan = compress.make_plan(graph, macs=0.5)
        >>> 0.49 < plan.narrow.macs / plan.dense.macs < 0.51
        True
    """
    while True:
        mask = select(graph, keep, macs, params, align, min_width, criterion, seed, whole)
        try:
            return plan_for_mask(graph, mask)
        except ChannelMismatch as mismatch:
            if isinstance(keep, Mapping) and any(isinstance(v, Sequence) for v in keep.values()):
                raise CompressError(
                    f"these channels cannot be cut exactly at {mismatch.node.name}: {mismatch.why}",
                    hint="give ratios or widths, so that the channels can be chosen",
                    code="plan-inexact",
                ) from mismatch
            graph.protect_at(mismatch)


def plan_for_mask(graph: ChannelGraph, mask: Mask) -> SlicePlan:
    """Return the plan that keeps the channels of `mask`, bool `[channels]`.

    Raises:
        ChannelMismatch: it cannot be cut so and still compute what the masked network computes.
    """
    cut = cut_graph(graph, mask)
    plan = SlicePlan(
        kept=cut.kept,
        masked=cut.masked,
        widths=cut.widths,
        dense=dense_costs(graph),
        narrow=cost_model(graph).costs(mask),
        rewrites=cut.rewrites if cut.needs_rewrites(graph) else {},
        input_shapes=graph.input_shapes,
        free_pads=graph.free_pads,
    )
    return with_needed_rewrites(graph, plan)


__all__ = ["make_plan", "plan_for_mask"]
