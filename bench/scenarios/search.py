"""The largest rate that holds: rates that are given, or a bracket that is made narrow by bisection."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Protocol

from compress.bench.scenarios.rates import Outcome

FIRST = 0.5
"""Share of the capacity (one query over its service time) where a search begins."""

UP, DOWN = 1.5, 2.0
"""Steps by which a bracket is looked for."""

LOWEST = 1 / 16
"""Share of the capacity under which no rate is tried: a queue hardly forms there, and rounds last long."""

WITHIN = 1.05
"""A search ends when the rates around what it looks for lie no further apart than this."""

MAX_RATES = 16
"""Most rates of a search."""


class Rates(Protocol):
    """Which rate is tried next."""

    @property
    def ended(self) -> str:
        """Why no further rate is tried, for people."""

    def next(self) -> float | None:
        """Return the rate to try; None where there is none."""

    def told(self, qps: float, outcome: Outcome) -> None:
        """Take note of what became of a rate."""


class Given:
    """Rates that the user chose, in ascending order."""

    ended = "all the rates that were given were tried"

    def __init__(self, rates: Sequence[float]) -> None:
        self._left = list(rates)

    def next(self) -> float | None:
        """Return the next one."""
        return self._left[0] if self._left else None

    def told(self, qps: float, outcome: Outcome) -> None:
        """Strike the rate out."""
        self._left.remove(qps)


class Search:
    """A bracket, then bisection on the logarithm of the rate.

    A rate that is undecided divides what is left in two: first the largest rate that holds is brought near to
    it from below, then the smallest that fails from above.
    """

    def __init__(self, capacity: float) -> None:
        """Begin at `FIRST` of the capacity, queries a second."""
        self._capacity = capacity
        self._tried = list[tuple[float, Outcome]]()
        self.ended = ""

    def told(self, qps: float, outcome: Outcome) -> None:
        """Take note of what became of a rate."""
        self._tried.append((qps, outcome))

    def next(self) -> float | None:
        """Return the rate to try; None where the search has ended."""
        tried = [rate for rate, _ in self._tried]
        if not tried:
            return FIRST * self._capacity
        if len(tried) >= MAX_RATES:
            self.ended = f"{MAX_RATES} rates were tried"
            return None
        holds, fails = bracket(self._tried)
        if holds is None:
            return self._lower(min(tried))
        if fails is None:
            return max(tried) * UP
        return self._between(holds, fails)

    def _lower(self, lowest: float) -> float | None:
        if lowest / DOWN >= LOWEST * self._capacity:
            return lowest / DOWN
        self.ended = f"no rate down to {lowest:.4g} queries a second was seen to hold"
        return None

    def _between(self, holds: float, fails: float) -> float | None:
        undecided = sorted(
            rate for rate, outcome in self._tried if outcome is Outcome.UNDECIDED and holds < rate < fails
        )
        for low, high in ((holds, [*undecided, fails][0]), ([holds, *undecided][-1], fails)):
            if high > low * WITHIN:
                return math.sqrt(low * high)
        self.ended = f"what holds, fails and cannot be decided lies within {WITHIN - 1:.0%} of each other"
        return None


def bracket(tried: Iterable[tuple[float, Outcome]]) -> tuple[float | None, float | None]:
    """Return the largest rate that holds with no smaller one that fails, and the smallest that fails."""
    rates = list(tried)
    fails = min((rate for rate, outcome in rates if outcome is Outcome.FAILS), default=None)
    holds = (rate for rate, outcome in rates if outcome is Outcome.HOLDS)
    return max((rate for rate in holds if fails is None or rate < fails), default=None), fails
