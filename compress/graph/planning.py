"""Choosing what to keep: ratios to widths, a cost target to a ratio, a criterion to indices."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import CompressError, near
from .labels import NONE
from .plan import CRITERIA, Criterion

if TYPE_CHECKING:
    from .channels import ChannelGraph, ChannelGroup

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
) -> Mask:
    """Which classes stay, bool `[classes]`; arguments as in `ChannelGraph.plan`."""
    _check(graph, keep, macs, params, align, min_width, criterion)
    scores = score(graph, criterion, seed)
    if isinstance(keep, Mapping):
        return _named(graph, keep, scores)
    if keep is not None:
        counts = [_count(g, keep, align, min_width) for g in graph.groups]
        return _pick(graph, counts, scores)
    which, goal = ("macs", macs) if macs is not None else ("params", params)
    assert goal is not None
    return _pick(graph, _meet(graph, which, goal, align, min_width), scores)


def _check(
    graph: ChannelGraph, keep: Keep | None, macs: float | None, params: float | None, align: int, min_width: int,
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
    tensors = {**dict(graph.model.named_parameters()), **dict(graph.model.named_buffers())}
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


def _window(width: int, count: int) -> NDArray[np.int64]:
    """The middle positions; aligned so that zero-padded shortcuts of halved widths line up."""
    start = width // 2 - count // 2
    start = min(max(start, 0), width - count)
    return np.arange(start, start + count)


def _step(group: ChannelGroup, align: int) -> int:
    """The smallest change of a cell's count that keeps the group's width aligned."""
    cells = len(group.cells)
    return align // math.gcd(align, cells)


def _bounds(group: ChannelGroup, align: int, min_width: int) -> tuple[int, int, int]:
    """Smallest and largest count in a cell, and the step between counts."""
    size = min(len(c) for c in group.cells)
    step = _step(group, align)
    if step > size:
        step = 1
    low = max(1, math.ceil(min_width / len(group.cells)))
    low = min(size, math.ceil(low / step) * step)
    return low, size, step


def _count(group: ChannelGroup, ratio: float, align: int, min_width: int) -> int:
    low, high, step = _bounds(group, align, min_width)
    count = math.floor(ratio * high / step + 0.5) * step
    return high if ratio >= 1 else min(high, max(low, count))


def _mask(graph: ChannelGraph, counts: Sequence[int], select: Callable[[NDArray[np.int64], int], object]) -> Mask:
    mask = np.ones(graph.classes.count, dtype=np.bool_)
    for group, count in zip(graph.groups, counts, strict=True):
        for cell in group.cells:
            mask[cell] = False
            mask[cell[select(cell, min(count, len(cell)))]] = True
    return mask


def _pick(graph: ChannelGraph, counts: Sequence[int], scores: Scores) -> Mask:
    """The best of each cell; the middle ones where all score alike."""

    def select(cell: NDArray[np.int64], count: int) -> object:
        s = scores[cell]
        return _window(len(cell), count) if (s == s[0]).all() else np.argsort(-s, kind="stable")[:count]

    return _mask(graph, counts, select)


def _meet(graph: ChannelGraph, which: str, goal: float, align: int, min_width: int) -> list[int]:
    """Counts whose cost comes nearest to the goal from below, or within the tolerance."""
    measure = graph.cost.macs if which == "macs" else graph.cost.params

    def cost(counts: Sequence[int]) -> float:
        return measure(_mask(graph, counts, lambda cell, n: np.arange(n)).astype(np.float64))

    def at(ratio: float) -> list[int]:
        return [_count(g, ratio, align, min_width) for g in graph.groups]

    dense, least = cost(at(1.0)), cost(at(1e-9))
    target = goal * dense if goal <= 1 else goal
    if target > dense * (1 + 1e-9):
        raise CompressError(
            f"{which}={goal:g} is more than the dense network has ({dense:,.0f})",
            hint="give a fraction of it (0.5) or a smaller number", code="target-range",
        )
    if target < least * (1 - TOLERANCE):
        raise CompressError(
            f"{which}={goal:g} cannot be reached: what is protected costs {least:,.0f} of {dense:,.0f}",
            hint=f"the smallest reachable is {which}={math.ceil(least / dense * 1e4) / 1e4:g}",
            code="target-unreachable", details={"smallest": least / dense, "dense": dense},
        )
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(at(middle)) <= target else (low, middle)
    return _fill(graph, at(max(low, 1e-9)), target, cost, align, min_width)


def _fill(
    graph: ChannelGraph, counts: list[int], target: float, cost: Callable[[Sequence[int]], float], align: int,
    min_width: int,
) -> list[int]:
    """Add single steps, widest groups first, as long as they bring the cost nearer to the target."""
    best = cost(counts)
    order = sorted(range(len(counts)), key=lambda i: -graph.groups[i].width)
    for _ in range(4):
        improved = False
        for i in order:
            _, high, step = _bounds(graph.groups[i], align, min_width)
            if counts[i] + step > high or abs(best - target) < 0.001 * target:
                continue
            trial = [*counts[:i], counts[i] + step, *counts[i + 1 :]]
            value = cost(trial)
            if abs(value - target) < abs(best - target):
                counts, best, improved = trial, value, True
        if not improved:
            break
    return counts


def _named(graph: ChannelGraph, keep: Mapping[str, float | int | Sequence[int]], scores: Scores) -> Mask:
    """Ratios, widths or indices for the groups that are named."""
    mask = np.ones(graph.classes.count, dtype=np.bool_)
    names = [g.name for g in graph.groups]
    for pattern, value in keep.items():
        found = [g for g in graph.groups if g.name == pattern] or [
            g for g in graph.groups if fnmatch.fnmatchcase(g.name, pattern)
        ]
        if not found:
            raise CompressError(
                f"no channel group is called {pattern!r}", code="unknown-group",
                hint=near(pattern, names) or "`compress inspect --model ...` lists the groups",
            )
        for group in found:
            _keep_group(group, value, mask, scores)
    return mask


def _keep_group(group: ChannelGroup, value: float | int | Sequence[int], mask: Mask, scores: Scores) -> None:
    mask[group.classes] = False
    if isinstance(value, Sequence):
        index = sorted(set(int(i) for i in value))
        if not index or index[0] < 0 or index[-1] >= group.width:
            raise CompressError(f"{group.name}: indices must lie in 0..{group.width - 1}, at least one")
        mask[group.classes[index]] = True
        return
    cells = len(group.cells)
    width = value if isinstance(value, int) and not isinstance(value, bool) else int(group.width * value)
    if not 0 < width <= group.width or width % cells:
        more = f", a multiple of {cells}" if cells > 1 else ""
        raise CompressError(f"{group.name}: width {width} is not in 1..{group.width}{more}", code="group-width")
    for cell in group.cells:
        count = width // cells
        s = scores[cell]
        best = _window(len(cell), count) if (s == s[0]).all() else np.argsort(-s, kind="stable")[:count]
        mask[cell[best]] = True
