"""Many widths of one layer, timed in rounds: each width once a round, in another order every time.

Between a few widths the full one is timed, and each width is set against the two times of it that stand
around its own: what slows the machine for a while slows both, and the ratio stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench import paired
from bench.machine import wait_for_rest
from bench.paired import WarmUp, collector_off, repeats_for
from bench.runners import Timed

MIN_ROUNDS = 7
"""Fewest rounds, however small the budget."""

MAX_ROUNDS = 40
"""Most rounds: more tell no more about a step."""

BETWEEN = 5
"""Most widths between two times of the full width."""

MEASURE_NS = 8_000_000
"""One measurement repeats the inference until it lasts about this long (8 ms)."""

LEAD_IN_NS = 2_000_000
"""Untimed inferences of about this long (2 ms) come before each measurement."""

WARM_UP_NS = 60_000_000
"""Shortest warm-up of each width (0.06 s)."""

WARM_UP_LIMIT_NS = 600_000_000
"""Longest warm-up of each width (0.6 s)."""


@dataclass(frozen=True)
class Rounds:
    """Times of widths over the full width's.

    Attributes:
        ratios: log of time over reference, `[rounds, widths]`, the widths ascending.
        reference_ns: every time of the full width.
        by_device: whether they are by the device's clock.
    """

    ratios: NDArray[np.float64]
    reference_ns: NDArray[np.float64]
    by_device: bool


def warm_up(runner: Timed) -> WarmUp:
    """Run a new session until its median settles, in short."""
    return paired.warm_up(runner, at_least_ns=WARM_UP_NS, at_most_ns=WARM_UP_LIMIT_NS)


def rounds(
    runners: Mapping[int, Timed],
    reference: Timed,
    typical_ns: Mapping[int, float],
    *,
    budget_s: float,
    rest: bool,
    seed: int = 0,
    report: Callable[[float], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Rounds:
    """Time the widths in rounds until the budget is spent.

    Args:
        runners: by width, warm. The full width among them is a second session of `reference`.
        reference: the full width.
        typical_ns: time of one inference at each width.
        budget_s: seconds; from `MIN_ROUNDS` to `MAX_ROUNDS` are measured whatever it says.
        rest: wait before each measurement until the threads of the session before are at rest.
        seed: of the order.
        report: called after each round with the share done, 0 to 1.
        clock: seconds, for the budget.
    """
    widths = sorted(runners)
    full_ns, rng = typical_ns[widths[-1]], np.random.default_rng(seed)
    visits = _Visits(rest)
    ratios, references = list[list[float]](), list[float]()
    start = clock()
    with collector_off():
        while True:
            found: dict[int, float] = {}
            order = [int(width) for width in rng.permutation(widths)]
            before = visits.time(reference, full_ns)
            for first in range(0, len(order), BETWEEN):
                part = order[first : first + BETWEEN]
                times = [visits.time(runners[width], typical_ns[width]) for width in part]
                after = visits.time(reference, full_ns)
                for i, width in enumerate(part):
                    share = (i + 1) / (len(part) + 1)
                    expected = (1 - share) * np.log(before) + share * np.log(after)
                    found[width] = float(np.log(times[i]) - expected)
                references.append(before)
                before = after
            references.append(before)
            ratios.append([found[width] for width in widths])
            done = _done(len(ratios), clock() - start, budget_s)
            if report is not None:
                report(min(done, 1.0))
            if done >= 1:
                return Rounds(np.array(ratios), np.array(references), visits.by_device)


def _done(count: int, elapsed_s: float, budget_s: float) -> float:
    spent = elapsed_s / budget_s if budget_s > 0 else 1.0
    return max(count / MAX_ROUNDS, min(count / MIN_ROUNDS, spent))


class _Visits:
    """Times sessions one after the other."""

    def __init__(self, rest: bool) -> None:
        self._rest = rest
        self.by_device = False

    def time(self, runner: Timed, typical_ns: float) -> float:
        """Nanoseconds of an inference: the median of a measurement, after a lead-in."""
        if self._rest:
            wait_for_rest()
        runner.run(repeats_for(typical_ns, LEAD_IN_NS))
        host = runner.run(repeats_for(typical_ns, MEASURE_NS))
        device = runner.device_ns
        self.by_device = device is not None
        return max(1.0, float(np.median(host if device is None else device)))
