"""Select channels: ratios to widths, a cost target to a ratio, scores to indices."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Integral, Real

import numpy as np

from compress.core.errors import CompressError, did_you_mean
from compress.cost import cost_model
from compress.graph import ChannelGraph
from compress.graph.cut import Mask
from compress.graph.feasibility import keep_best
from compress.graph.width_choices import Counts
from compress.planning.criteria import Criterion, get_criterion
from compress.planning.named_groups import select_named

Keep = float | Mapping[str, float | int | Sequence[int]]
TOLERANCE = 0.01
"""A cost target is met within this share of the dense cost's target, or the command says it is not."""


def select(
    graph: ChannelGraph,
    keep: Keep | None,
    macs: float | None,
    params: float | None,
    align: int,
    min_width: int,
    criterion: str | Criterion,
    seed: int,
    whole: Collection[str] = (),
) -> Mask:
    """Return which channels stay, bool `[channels]`; arguments as in `make_plan`."""
    chosen = get_criterion(criterion)
    _check_types(keep, macs, params, align, min_width, seed)
    _check(graph, keep, macs, params, align, min_width, seed, chosen)
    _check_whole(graph, whole)
    scores = chosen.score(graph, seed)
    levels = _levels(graph, align, min_width, whole)
    if isinstance(keep, Mapping):
        return select_named(graph, keep, scores, align, min_width)
    if keep is not None:
        ratio = keep
        at = [k.at(ratio, align, min_width) for k in graph.width_choices]
        return keep_best(graph, [x[min(i, len(x) - 1)] for x, i in zip(levels, at, strict=True)], scores)
    which, goal = ("macs", macs) if macs is not None else ("params", params)
    assert goal is not None
    return keep_best(graph, _meet(graph, which, goal, align, min_width, levels), scores)


def _levels(
    graph: ChannelGraph, align: int, min_width: int, whole: Collection[str]
) -> list[tuple[Counts, ...]]:
    """Return the levels of each width choice; only the widest if one of its groups stays whole."""
    fixed = {i for i, g in enumerate(graph.groups) if g.name in whole}
    choices = [(k, k.levels(align, min_width)) for k in graph.width_choices]
    return [levels[-1:] if k.groups() & fixed else levels for k, levels in choices]


def _check_types(
    keep: object, macs: object, params: object, align: object, min_width: object, seed: object
) -> None:
    for name, value in (("keep", keep), ("macs", macs), ("params", params)):
        allowed = (Real, Mapping) if name == "keep" else Real
        if value is not None and (isinstance(value, bool) or not isinstance(value, allowed)):
            raise CompressError(
                f"{name}={value!r} is not a number",
                hint="give a fraction such as 0.5" + (", or one for each group" if name == "keep" else ""),
            )
    for name, value in (("align", align), ("min_width", min_width), ("seed", seed)):
        if not isinstance(value, Integral):
            raise CompressError(f"{name}={value!r} is not an integer")


def _check_whole(graph: ChannelGraph, whole: Collection[str]) -> None:
    if isinstance(whole, str) or not isinstance(whole, Collection):
        raise CompressError(f"whole={whole!r} is not a list of names", hint="give whole=['NAME', ...]")
    known = {g.name for g in graph.groups} | {p.name for p in graph.protected}
    for name in whole:
        if name not in known:
            raise CompressError(
                f"no channel group is called {name!r}",
                code="unknown-group",
                hint=did_you_mean(str(name), known) or "`compress inspect --model ...` lists the groups",
            )


def _check(
    graph: ChannelGraph,
    keep: Keep | None,
    macs: float | None,
    params: float | None,
    align: int,
    min_width: int,
    seed: int,
    criterion: Criterion,
) -> None:
    if sum(x is not None for x in (keep, macs, params)) != 1:
        raise CompressError("give exactly one of keep, macs and params")
    for name, value in (("keep", keep), ("macs", macs), ("params", params)):
        if isinstance(value, (int, float)) and (not math.isfinite(value) or value <= 0):
            raise CompressError(f"{name}={value} is out of range", hint="give a fraction above 0, at most 1")
    if isinstance(keep, (int, float)) and keep > 1:
        raise CompressError(f"keep={keep} is out of range", hint="give a fraction above 0, at most 1")
    if align < 1 or min_width < 1:
        raise CompressError(f"align={align} and min_width={min_width} must be at least 1")
    if seed < 0:
        raise CompressError(f"seed={seed} is negative", hint="give 0 or more")
    if graph.free_pads and not criterion.for_free_pads and not isinstance(keep, Mapping):
        raise CompressError(
            f"criterion {type(criterion).__name__} cannot be used with free pads",
            hint="padded channels must stay together: use criterion='window' or trace without free_pads",
        )


def narrowest_mask(graph: ChannelGraph) -> Mask:
    """Return the mask of the narrowest network that can be planned, bool `[channels]`."""
    return keep_best(graph, [k.levels()[0] for k in graph.width_choices], np.zeros(graph.channels.count))


def _meet(
    graph: ChannelGraph,
    which: str,
    goal: float,
    align: int,
    min_width: int,
    levels: Sequence[tuple[Counts, ...]],
) -> list[Counts]:
    """Return the counts whose cost is nearest to the goal from below, or within the tolerance."""
    cost_of = cost_model(graph).macs if which == "macs" else cost_model(graph).params
    same = np.zeros(graph.channels.count)

    def cost(chosen: Sequence[int]) -> float:
        counts = [at[i] for at, i in zip(levels, chosen, strict=True)]
        return cost_of(keep_best(graph, counts, same).astype(np.float64))

    def at(ratio: float) -> list[int]:
        nearest = [k.at(ratio, align, min_width) for k in graph.width_choices]
        return [min(i, len(x) - 1) for i, x in zip(nearest, levels, strict=True)]

    dense, least = cost([len(x) - 1 for x in levels]), cost([0] * len(levels))
    target = goal * dense if goal <= 1 else goal
    _reachable(which, goal, target, least, dense)
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(at(middle)) <= target else (low, middle)
    chosen = at(low)
    chosen = [0] * len(levels) if cost(chosen) > target else chosen
    chosen = _fill(graph, chosen, [len(x) for x in levels], target, cost)
    return [x[i] for x, i in zip(levels, chosen, strict=True)]


def _reachable(which: str, goal: float, target: float, least: float, dense: float) -> None:
    if target > dense * (1 + 1e-9):
        raise CompressError(
            f"{which}={goal:g} is more than the dense network has ({dense:,.0f})",
            hint="give a fraction of it (0.5) or a smaller number", code="target-range",
        )  # fmt: skip
    if target < least * (1 - TOLERANCE):
        raise CompressError(
            f"{which}={goal:g} cannot be reached: protected channels cost {least:,.0f} of {dense:,.0f}",
            hint=f"the smallest possible target is {which}={math.ceil(least / dense * 1e4) / 1e4:g}",
            code="target-unreachable", details={"smallest": least / dense, "dense": dense},
        )  # fmt: skip


def _fill(
    graph: ChannelGraph,
    chosen: list[int],
    levels: Sequence[int],
    target: float,
    cost: Callable[[Sequence[int]], float],
) -> list[int]:
    """Add single steps, widest first, as long as they bring the cost nearer to the target."""
    best_cost = cost(chosen)
    order = sorted(range(len(chosen)), key=lambda i: -sum(graph.width_choices[i].sizes))
    for _ in range(4):
        improved = False
        for i in order:
            if chosen[i] + 1 >= levels[i] or abs(best_cost - target) < 0.001 * target:
                continue
            trial = [*chosen[:i], chosen[i] + 1, *chosen[i + 1 :]]
            value = cost(trial)
            if value <= (1 + TOLERANCE) * target and abs(value - target) < abs(best_cost - target):
                chosen, best_cost, improved = trial, value, True
        if not improved:
            break
    return chosen
