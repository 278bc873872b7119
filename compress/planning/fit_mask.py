"""Fit a mask to a budget: close the lowest scores, open the highest, until the budget is met."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.core.errors import CompressError
from compress.planning.selection import TOLERANCE

Bools = NDArray[np.bool_]
Chunk = NDArray[np.int64]


@dataclass(frozen=True)
class Budget:
    """A limit on a cost.

    Attributes:
        kind: ``macs`` or ``params``. goal: the most that is allowed, an absolute number.
        cost: the cost of open units `[units]`.
    """

    kind: str
    goal: float
    cost: Callable[[Bools], float]

    def met(self, open_units: Bools) -> bool:
        """Return whether the cost is within 1% of the limit."""
        return abs(self.cost(open_units) - self.goal) <= TOLERANCE * self.goal


def layers(groups: Iterable[NDArray[np.int64]], unit_of: NDArray[np.int64]) -> list[Chunk]:
    """The units of each layer, of the channels of each group; layers that share units are one."""
    out: list[Chunk] = []
    for channels in groups:
        own = np.unique(unit_of[channels])
        own = own[own >= 0]
        touching = [o for o in out if np.intersect1d(o, own).size]
        out = [o for o in out if not any(o is t for t in touching)]
        if own.size:
            out.append(np.unique(np.concatenate([own, *touching])))
    return out


def fit_mask_to_budget(
    budget: Budget, groups: Sequence[Chunk], scores: NDArray[np.float64], open_units: Bools, align: str
) -> Bools:
    """The mask `[units]` that meets the budget within 1%, near the given one.

    Args:
        budget: the limit. groups: see `layers`. scores: of each unit `[units]`; the lowest close first.
        open_units: the mask as it was learned. align: widths become multiples of this where the layer is wide
            enough; ``auto`` tries 8, 4, 2 and 1 and takes the first that meets the budget.

    Raises:
        CompressError: ``target-missed`` with the nearest cost that can be reached.
    """
    steps = (8, 4, 2, 1) if align == "auto" else (1 if align == "none" else int(align),)
    best: Bools | None = None
    for step in steps:
        mask = _fit(budget, groups, scores, open_units, step)
        if budget.met(mask):
            return mask
        if best is None or abs(budget.cost(mask) - budget.goal) < abs(budget.cost(best) - budget.goal):
            best = mask
    assert best is not None
    raise CompressError(
        f"the budget of {budget.goal:,.0f} {budget.kind} cannot be met within 1%: the nearest that the "
        f"scores allow costs {budget.cost(best):,.0f}",
        hint="use --align none, or a target further from the cost of the protected channels",
        code="target-missed",
        details={"nearest": budget.cost(best)},
    )


def _fit(
    budget: Budget, groups: Sequence[Chunk], scores: NDArray[np.float64], open_units: Bools, step: int
) -> Bools:
    mask = open_units.copy()
    for group in groups:
        _round(mask, group, scores, step)
    closing = _closings(mask, groups, scores, step)
    if budget.cost(mask) > budget.goal:
        count = _first(lambda n: budget.cost(_with(mask, closing[:n], False)) <= budget.goal, len(closing))
        mask = _with(mask, closing[:count], False)
    for chunk in _openings(mask, groups, scores, step):
        if budget.met(mask):
            break
        wider = _with(mask, [chunk], True)
        if budget.cost(wider) <= budget.goal * (1 + TOLERANCE):
            mask = wider
    return mask


def _round(mask: Bools, group: Chunk, scores: NDArray[np.float64], step: int) -> None:
    """Open the best units of a layer: as many as are open, to a multiple of the step; at least one step."""
    step = min(step, group.size)
    count = max(step, int(mask[group].sum() / step + 0.5) * step)
    best = group[np.argsort(-scores[group], kind="stable")]
    learned = best[np.argsort(~mask[best], kind="stable")]  # what is open stays before what is closed
    mask[group] = False
    mask[learned[: min(count, group.size)]] = True


def _closings(mask: Bools, groups: Sequence[Chunk], scores: NDArray[np.float64], step: int) -> list[Chunk]:
    """Open units in steps, the lowest scores first; the best step of every layer is never closed."""
    chunks = []
    for group in groups:
        opened = group[mask[group]]
        order = opened[np.argsort(scores[opened], kind="stable")]
        usable = max(0, order.size - min(step, order.size))
        chunks += [order[i : i + step] for i in range(0, usable - usable % step, step)]
    return sorted(chunks, key=lambda c: float(scores[c].mean()))


def _openings(mask: Bools, groups: Sequence[Chunk], scores: NDArray[np.float64], step: int) -> list[Chunk]:
    chunks = []
    for group in groups:
        closed = group[~mask[group]]
        order = closed[np.argsort(-scores[closed], kind="stable")]
        chunks += [order[i : i + step] for i in range(0, order.size - order.size % step, step)]
    return sorted(chunks, key=lambda c: -float(scores[c].mean()))


def _with(mask: Bools, chunks: list[Chunk], value: bool) -> Bools:
    out = mask.copy()
    if chunks:
        out[np.concatenate(chunks)] = value
    return out


def _first(true: Callable[[int], bool], most: int) -> int:
    """The smallest number for which a monotone condition holds, or `most`."""
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if true(middle) else (middle + 1, high)
    return low
