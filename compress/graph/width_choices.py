"""Width choices: how many channels may stay, where the counts of several parts depend on each other.

A count tie requires that equally many channels stay in each of several rows. A part holds the channels that
occur in the same rows. A `WidthChoice` is a set of parts that ties connect; it turns a keep ratio into a
count for each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from compress.graph.channels import Channels
from compress.graph.labels import Ints

if TYPE_CHECKING:
    from compress.graph.groups import ChannelGroup

Counts = tuple[int, ...]
IRREGULAR_LEVELS = 16
"""Number of choices computed for parts whose ties are not uniform."""


@dataclass(frozen=True)
class WidthChoice:
    """Parts whose channel counts are chosen together.

    Attributes:
        parts: `(group, part)` positions.
        sizes: number of channels of each part.
        group_parts: number of parts in the group of each part.
        equations, constants: every tie as `equations @ counts = constants`, `[ties, parts]` and `[ties]`.
    """

    parts: tuple[tuple[int, int], ...]
    sizes: Counts
    group_parts: Counts
    equations: Ints
    constants: Ints
    _totals: dict[tuple[int, int], Ints] = field(default_factory=dict, repr=False, compare=False)
    _levels: dict[tuple[int, int], tuple[Counts, ...]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def uniform(self) -> bool:
        """Whether the ties hold exactly if every part keeps equally many."""
        return len(set(self.sizes)) == 1 and not self.equations.sum(1).any() and not self.constants.any()

    def groups(self) -> set[int]:
        """Return the groups of these parts."""
        return {g for g, _ in self.parts}

    def levels(self, align: int = 1, min_width: int = 1) -> tuple[Counts, ...]:
        """Return every choice of counts that the ties allow, from the fewest channels to all."""
        if (align, min_width) not in self._levels:
            levels = self._uniform(align, min_width) if self.uniform else self._solved(align, min_width)
            self._levels[align, min_width] = levels
        return self._levels[align, min_width]

    def at(self, ratio: float, align: int = 1, min_width: int = 1) -> int:
        """Return the index of the level nearest to a keep ratio; of two equally near ones the wider."""
        levels, size = self.levels(align, min_width), sum(self.sizes)
        if ratio >= 1:
            return len(levels) - 1
        if (align, min_width) not in self._totals:
            self._totals[align, min_width] = np.array([sum(level) for level in levels])
        distance = np.abs(self._totals[align, min_width] - ratio * size)
        return len(levels) - 1 - int(np.argmin(distance[::-1]))

    def _step(self, align: int) -> int:
        """Return the smallest change of a part's count that keeps the width of its group aligned."""
        return math.lcm(*(align // math.gcd(align, b) for b in self.group_parts))

    def _low(self, min_width: int) -> Counts:
        return tuple(
            min(s, max(1, math.ceil(min_width / b)))
            for s, b in zip(self.sizes, self.group_parts, strict=True)
        )

    def _uniform(self, align: int, min_width: int) -> tuple[Counts, ...]:
        size, step = self.sizes[0], self._step(align)
        step = step if step <= size else 1
        low = min(size, math.ceil(max(self._low(min_width)) / step) * step)
        return tuple((n,) * len(self.parts) for n in sorted({*range(low, size, step), size}))

    def _solved(self, align: int, min_width: int) -> tuple[Counts, ...]:
        step = self._step(align)
        if any(s % step for s in self.sizes):
            step = 1
        tried = min(max(self.sizes), IRREGULAR_LEVELS)
        solutions = {self.sizes}
        for i in range(tried):
            solution = self.solve(i / tried, self._low(min_width), step=step)
            if solution:
                solutions.add(solution)
        return tuple(sorted(solutions, key=sum))

    def solve(
        self,
        ratio: float,
        low: Sequence[int] | None = None,
        fixed: Mapping[int, int] | None = None,
        step: int = 1,
    ) -> Counts | None:
        """Return the counts that satisfy the ties and are nearest to `ratio` of each part, or None.

        Args:
            ratio: fraction of each part to keep.
            low: smallest count of each part.
            fixed: given counts, by part.
            step: unit of the counts: all are multiples of it.
        """
        from scipy.optimize import Bounds, LinearConstraint, milp  # takes a quarter of a second

        n = len(self.sizes)
        least = np.array(low if low is not None else [1] * n, dtype=np.float64)
        most = np.array(self.sizes, dtype=np.float64)
        for i, value in (fixed or {}).items():
            least[i] = most[i] = value
        goal = np.array(self.sizes, dtype=np.float64) * ratio / step
        eye = np.eye(n)
        ties = np.hstack([self.equations * step, np.zeros_like(self.equations)])
        distance = LinearConstraint(
            np.vstack([np.hstack([eye, -eye]), np.hstack([eye, eye])]),
            np.concatenate([np.full(n, -np.inf), goal]),
            np.concatenate([goal, np.full(n, np.inf)]),
        )
        result = milp(
            np.concatenate([np.zeros(n), np.ones(n)]),
            integrality=np.concatenate([np.ones(n), np.zeros(n)]),
            bounds=Bounds(
                np.concatenate([np.ceil(least / step), np.zeros(n)]),
                np.concatenate([np.floor(most / step), np.full(n, np.inf)]),
            ),
            constraints=[
                distance,
                *([LinearConstraint(ties, self.constants, self.constants)] if len(ties) else []),
            ],
            options={"time_limit": 1.0},
        )
        if result.x is None:
            return None
        counts = tuple(round(float(x)) * step for x in result.x[:n])
        return counts if (self.equations @ np.array(counts) == self.constants).all() else None


def find_width_choices(groups: Sequence[ChannelGroup], channels: Channels) -> tuple[WidthChoice, ...]:
    """Divide the parts of all groups into width_choices."""
    parts = [(g, c) for g, group in enumerate(groups) for c in range(len(group.parts))]
    home = np.full(channels.count + 1, -1, dtype=np.int64)
    for i, (g, c) in enumerate(parts):
        home[groups[g].parts[c]] = i
    equations, constants = _equations(channels, home, len(parts))
    edges = [
        (used[0], other) for row in equations for used in [np.flatnonzero(row).tolist()] for other in used[1:]
    ]
    for g, group in enumerate(groups):
        own = [i for i, (of, _) in enumerate(parts) if of == g] if len(group.parts) > 1 else []
        edges += [(own[0], other) for other in own[1:]]
    first, second = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    graph = coo_matrix((np.ones(len(edges)), (first, second)), shape=(len(parts), len(parts)))
    component = connected_components(graph, directed=False)[1]
    joined: dict[int, list[int]] = {}
    for i in range(len(parts)):
        joined.setdefault(int(component[i]), []).append(i)
    rows_of: dict[int, list[int]] = {}
    for r, row in enumerate(equations):
        rows_of.setdefault(int(component[np.flatnonzero(row)[0]]), []).append(r)
    return tuple(
        _choice(key, mine, parts, groups, equations, constants, rows_of) for key, mine in joined.items()
    )


def _choice(
    key: int,
    mine: list[int],
    parts: list[tuple[int, int]],
    groups: Sequence[ChannelGroup],
    equations: Ints,
    constants: Ints,
    rows_of: Mapping[int, list[int]],
) -> WidthChoice:
    rows = rows_of.get(key, [])
    return WidthChoice(
        tuple(parts[i] for i in mine),
        tuple(len(groups[parts[i][0]].parts[parts[i][1]]) for i in mine),
        tuple(len(groups[parts[i][0]].parts) for i in mine),
        equations[np.ix_(rows, mine)] if rows else np.zeros((0, len(mine)), dtype=np.int64),
        constants[rows] if rows else np.zeros(0, dtype=np.int64),
    )


def _equations(channels: Channels, home: Ints, count: int) -> tuple[Ints, Ints]:
    """Return equations that compare the rows of every tie with its first row.

    The coefficient of a part in a row is how often the row contains each of its channels.
    """
    sizes = np.bincount(home[home >= 0], minlength=count)
    equations: dict[tuple[int, ...], None] = {}
    for tie in channels.ties:
        rows = []
        for row in tie.rows:
            where = home[row]
            inside = np.bincount(where[where >= 0], minlength=count)
            rows.append((inside // np.maximum(sizes, 1), int((where < 0).sum())))
        first, base = rows[0]
        for share, fixed in rows[1:]:
            difference = share - first
            if difference.any():
                equations[(*difference.tolist(), base - fixed)] = None
    if not equations:
        return np.zeros((0, count), dtype=np.int64), np.zeros(0, dtype=np.int64)
    table = np.array(list(equations), dtype=np.int64)
    return table[:, :-1], table[:, -1]


__all__ = ["Counts", "WidthChoice", "find_width_choices"]
