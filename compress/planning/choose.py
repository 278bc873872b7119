"""Choosing what to keep: ratios to widths, a cost target to a ratio, a criterion to indices."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from compress.core.errors import CompressError
from compress.graph.labels import NONE
from compress.graph.ties import Counts
from compress.planning.plan import CRITERIA, Criterion

if TYPE_CHECKING:
    from compress.graph.channels import ChannelGraph

Mask = NDArray[np.bool_]
Scores = NDArray[np.float64]
Keep = float | Mapping[str, float | int | Sequence[int]]
TOLERANCE = 0.01
"""A cost target is met within this share of the dense cost's target, or the command says it is not."""


def choose(
    graph: ChannelGraph,
    keep: Keep | None,
    macs: float | None,
    params: float | None,
    align: int,
    min_width: int,
    criterion: Criterion,
    seed: int,
    whole: Collection[str] = (),
) -> Mask:
    """Which classes stay, bool `[classes]`; arguments as in `ChannelGraph.plan`."""
    _check(graph, keep, macs, params, align, min_width, criterion)
    scores = score(graph, criterion, seed)
    levels = _levels(graph, align, min_width, whole)
    if isinstance(keep, Mapping):
        from compress.planning.named import named

        return named(graph, keep, scores, align, min_width)
    if keep is not None:
        ratio = keep
        at = [k.at(ratio, align, min_width) for k in graph.knobs]
        return _pick(graph, [x[min(i, len(x) - 1)] for x, i in zip(levels, at, strict=True)], scores)
    which, goal = ("macs", macs) if macs is not None else ("params", params)
    assert goal is not None
    return _pick(graph, _meet(graph, which, goal, align, min_width, levels), scores)


def _levels(
    graph: ChannelGraph, align: int, min_width: int, whole: Collection[str]
) -> list[tuple[Counts, ...]]:
    """The choices of each knob; of one with a group that stays whole only the widest."""
    fixed = {i for i, g in enumerate(graph.groups) if g.name in whole}
    choices = [(k, k.levels(align, min_width)) for k in graph.knobs]
    return [found[-1:] if k.groups() & fixed else found for k, found in choices]


def _check(
    graph: ChannelGraph,
    keep: Keep | None,
    macs: float | None,
    params: float | None,
    align: int,
    min_width: int,
    criterion: Criterion,
) -> None:
    if sum(x is not None for x in (keep, macs, params)) != 1:
        raise CompressError("give exactly one of keep, macs and params")
    for name, value in (("keep", keep), ("macs", macs), ("params", params)):
        if isinstance(value, (int, float)) and (not math.isfinite(value) or value <= 0):
            raise CompressError(f"{name}={value} is out of range", hint="a fraction above 0, at most 1")
    if isinstance(keep, (int, float)) and keep > 1:
        raise CompressError(f"keep={keep} is out of range", hint="a fraction above 0, at most 1")
    if align < 1 or min_width < 1:
        raise CompressError(f"align={align} and min_width={min_width} must be at least 1")
    if criterion not in CRITERIA:
        raise CompressError(f"unknown criterion {criterion!r}", hint=f"one of {', '.join(CRITERIA)}")
    if graph.free_pads and criterion != "window" and not isinstance(keep, Mapping):
        raise CompressError(
            f"criterion {criterion!r} cannot be used with free pads",
            hint="padded channels must stay together: use criterion='window' or trace without free_pads",
        )


def score(graph: ChannelGraph, criterion: Criterion, seed: int) -> Scores:
    """A score for each class, `[classes]`; the highest stay."""
    classes = graph.classes
    out = np.zeros(classes.count)
    if criterion == "random":
        return np.random.default_rng(seed).random(classes.count)
    if criterion == "window":
        return out
    tensors = {
        **dict(graph.model.named_parameters(remove_duplicate=False)),
        **dict(graph.model.named_buffers(remove_duplicate=False)),
    }
    produced = np.zeros(graph.facts.registry.size, dtype=bool)
    for labels in graph.facts.produced:
        produced[labels[labels != NONE]] = True
    for name, dim, start, width in graph.facts.registry.dims():
        tensor = tensors[name].detach()
        rows = tensor.movedim(dim, 0).reshape(width, -1).float().cpu()
        if criterion == "bn-scale":
            if tensor.dim() == 1 and name.endswith("weight"):
                np.add.at(out, classes.root[start : start + width], rows[:, 0].abs().numpy())
        elif produced[start]:
            value = rows.abs().sum(1) if criterion == "l1" else torch.linalg.vector_norm(rows, dim=1)
            np.add.at(out, classes.root[start : start + width], value.numpy())
    return out


def best(scores: Scores, cell: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The `count` channels of a cell with the highest scores; the middle ones where all score alike."""
    s = scores[cell]
    return cell[_window(len(cell), count) if (s == s[0]).all() else np.argsort(-s, kind="stable")[:count]]


def _window(width: int, count: int) -> NDArray[np.int64]:
    """The middle positions; aligned so that zero-padded shortcuts of halved widths line up."""
    start = width // 2 - count // 2
    start = min(max(start, 0), width - count)
    return np.arange(start, start + count)


def _pick(graph: ChannelGraph, counts: Sequence[Counts], scores: Scores) -> Mask:
    mask = np.ones(graph.classes.count, dtype=np.bool_)
    for knob, chosen in zip(graph.knobs, counts, strict=True):
        for (g, c), count in zip(knob.cells, chosen, strict=True):
            cell = graph.groups[g].cells[c]
            mask[cell] = False
            mask[best(scores, cell, count)] = True
    return mask


def narrowest(graph: ChannelGraph) -> Mask:
    """The mask with the fewest channels."""
    return _pick(graph, [k.levels()[0] for k in graph.knobs], np.zeros(graph.classes.count))


def _meet(
    graph: ChannelGraph,
    which: str,
    goal: float,
    align: int,
    min_width: int,
    levels: Sequence[tuple[Counts, ...]],
) -> list[Counts]:
    """Counts whose cost comes nearest to the goal from below, or within the tolerance."""
    measure = graph.cost.macs if which == "macs" else graph.cost.params
    same = np.zeros(graph.classes.count)

    def cost(chosen: Sequence[int]) -> float:
        counts = [at[i] for at, i in zip(levels, chosen, strict=True)]
        return measure(_pick(graph, counts, same).astype(np.float64))

    def at(ratio: float) -> list[int]:
        found = [k.at(ratio, align, min_width) for k in graph.knobs]
        return [min(i, len(x) - 1) for i, x in zip(found, levels, strict=True)]

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
            f"{which}={goal:g} cannot be reached: what is protected costs {least:,.0f} of {dense:,.0f}",
            hint=f"the smallest reachable is {which}={math.ceil(least / dense * 1e4) / 1e4:g}",
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
    order = sorted(range(len(chosen)), key=lambda i: -sum(graph.knobs[i].sizes))
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
