"""Choose the rates to measure: a given list, or a search for the largest rate that meets the bound."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Protocol

from compress.bench.scenarios.rates import Outcome

FIRST = 0.5
"""Share of the capacity (one over the service time of a query) at which a search starts."""

UP, DOWN = 1.5, 2.0
"""Factors between rates until the largest rate is bracketed."""

LOWEST = 1 / 16
"""Smallest rate as a share of the capacity: below it, queues hardly form and rounds take long."""

WITHIN = 1.05
"""A search ends when the rates of the bracket differ by no more than this factor."""

MAX_RATES = 16
"""Most rates of a search."""


class RatePlan(Protocol):
    """Chooses which rate is measured next."""

    @property
    def ended(self) -> str:
        """Why no further rate is measured."""

    def next(self) -> float | None:
        """Return the rate to measure next, or None."""

    def record(self, qps: float, outcome: Outcome) -> None:
        """Record the outcome of a rate."""


class FixedRates:
    """Given rates, in ascending order."""

    ended = "all given rates were measured"

    def __init__(self, rates: Sequence[float]) -> None:
        self._left = list(rates)

    def next(self) -> float | None:
        """Return the next rate, or None."""
        return self._left[0] if self._left else None

    def record(self, qps: float, outcome: Outcome) -> None:
        """Remove the rate from the list."""
        self._left.remove(qps)


class RateSearch:
    """Bracket the largest rate that meets the bound, then bisect on the logarithm of the rate.

    If rates are undecided, the largest rate that meets the bound is first raised towards them, then the
    smallest rate that exceeds it is lowered towards them.

    Args:
        capacity: capacity of the network, queries per second.
    """

    def __init__(self, capacity: float) -> None:
        self._capacity = capacity
        self._measured = list[tuple[float, Outcome]]()
        self.ended = ""

    def record(self, qps: float, outcome: Outcome) -> None:
        """Record the outcome of a rate."""
        self._measured.append((qps, outcome))

    def next(self) -> float | None:
        """Return the rate to measure next; None if the search has ended."""
        rates = [rate for rate, _ in self._measured]
        if not rates:
            return FIRST * self._capacity
        if len(rates) >= MAX_RATES:
            self.ended = f"{MAX_RATES} rates were measured"
            return None
        holds, fails = bracket(self._measured)
        if holds is None:
            return self._lower(min(rates))
        if fails is None:
            return max(rates) * UP
        return self._between(holds, fails)

    def _lower(self, lowest: float) -> float | None:
        if lowest / DOWN >= LOWEST * self._capacity:
            return lowest / DOWN
        self.ended = f"no rate down to {lowest:.4g} queries per second met the bound"
        return None

    def _between(self, holds: float, fails: float) -> float | None:
        undecided = sorted(
            rate for rate, outcome in self._measured if outcome is Outcome.UNDECIDED and holds < rate < fails
        )
        for low, high in ((holds, [*undecided, fails][0]), ([holds, *undecided][-1], fails)):
            if high > low * WITHIN:
                return math.sqrt(low * high)
        self.ended = f"adjacent rates differ by no more than {WITHIN - 1:.0%}"
        return None


def bracket(measured: Iterable[tuple[float, Outcome]]) -> tuple[float | None, float | None]:
    """Return the largest rate that meets the bound below the smallest that exceeds it, and the latter."""
    rates = list(measured)
    fails = min((rate for rate, outcome in rates if outcome is Outcome.FAILS), default=None)
    holds = (rate for rate, outcome in rates if outcome is Outcome.HOLDS)
    return max((rate for rate in holds if fails is None or rate < fails), default=None), fails
