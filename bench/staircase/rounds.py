"""Many widths of one layer, timed in rounds: each width once a round, in another order every time.

Every width meets the same machine, fast or slow, as often as the others. An interruption by another process
only ever adds, and on a busy machine most of the longer inferences have one; so what stands for a width is
the lower quartile of its inferences in a round, and then of its rounds, not their median. Its ratio is that
to the full width, timed the same way several times a round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.bench.backends import Timed
from compress.bench.protocol import paired
from compress.bench.protocol.machine import wait_for_rest
from compress.bench.protocol.paired import WarmUp, collector_off, repeats_for
from compress.bench.protocol.stats import CONFIDENCE

MIN_ROUNDS = 7
"""Fewest rounds, however small the budget."""

MAX_ROUNDS = 40
"""Most rounds: more tell no more about a step."""

BETWEEN = 5
"""Most widths between two times of the full width."""

RESAMPLES = 2000
"""Bootstrap resamples of the intervals."""

MEASURE_NS = 8_000_000
"""One measurement repeats the inference until it lasts about this long (8 ms)."""

MIN_INFERENCES = 4
"""Fewest inferences of a measurement, so that one of them is likely not to be interrupted."""

LEAD_IN_NS = 2_000_000
"""Untimed inferences of about this long (2 ms) come before each measurement."""

WARM_UP_NS = 60_000_000
"""Shortest warm-up of each width (0.06 s)."""

WARM_UP_LIMIT_NS = 600_000_000
"""Longest warm-up of each width (0.6 s)."""


@dataclass(frozen=True)
class Rounds:
    """Times in nanoseconds.

    Attributes:
        widths_ns: of each width, ascending, in each round `[rounds, widths]`.
        full_ns: of the full width's first session `[rounds, times]`.
        by_device: whether they are by the device's clock.
    """

    widths_ns: NDArray[np.float64]
    full_ns: NDArray[np.float64]
    by_device: bool


@dataclass(frozen=True)
class Ratios:
    """Times over the full width's, `[widths]`, with the ends of their 95% intervals; and its own time."""

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    full_ns: float


def quartile(times: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """Return the lower quartile along an axis: a time that was measured, none between two."""
    ordered = np.sort(times, axis=axis)
    found: NDArray[np.float64] = ordered.take((times.shape[axis] - 1) // 4, axis=axis)
    return found


def ratios(found: Rounds, *, seed: int = 0) -> Ratios:
    """Return the ratios of the quartiles, with percentile bootstrap intervals over the rounds."""
    count = len(found.widths_ns)
    drawn = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))
    full = quartile(found.full_ns[drawn].reshape(RESAMPLES, -1))
    spread = quartile(found.widths_ns[drawn], axis=1) / full[:, None]
    tail = (1 - CONFIDENCE) / 2
    own = float(quartile(found.full_ns.reshape(-1)))
    value = quartile(found.widths_ns, axis=0) / own
    low, high = np.quantile(spread, [tail, 1 - tail], axis=0)
    return Ratios(value, np.minimum(low, value), np.maximum(high, value), own)


def warm_up(runner: Timed) -> WarmUp:
    """Run a new session until its median settles, in short."""
    return paired.warm_up(runner, at_least_ns=WARM_UP_NS, at_most_ns=WARM_UP_LIMIT_NS)


def rounds(
    runners: Mapping[int, Timed],
    full: Timed,
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
        runners: by width, warm. The full width among them is a second session of `full`.
        full: the full width.
        typical_ns: time of one inference at each width.
        budget_s: seconds; from `MIN_ROUNDS` to `MAX_ROUNDS` are measured whatever it says.
        rest: wait before each measurement until the threads of the session before are at rest.
        seed: of the order.
        report: called after each round with the share done, 0 to 1.
        clock: seconds, for the budget.
    """
    widths = sorted(runners)
    rng, visits = np.random.default_rng(seed), _Visits(rest)
    times, references = list[list[float]](), list[list[float]]()
    start = clock()
    with collector_off():
        while True:
            found, own = dict[int, float](), list[float]()
            for i, width in enumerate(int(width) for width in rng.permutation(widths)):
                if i % BETWEEN == 0:
                    own.append(visits.time(full, typical_ns[widths[-1]]))
                found[width] = visits.time(runners[width], typical_ns[width])
            times.append([found[width] for width in widths])
            references.append(own)
            done = _done(len(times), clock() - start, budget_s)
            if report is not None:
                report(min(done, 1.0))
            if done >= 1:
                return Rounds(np.array(times), np.array(references), visits.by_device)


def _done(count: int, elapsed_s: float, budget_s: float) -> float:
    spent = elapsed_s / budget_s if budget_s > 0 else 1.0
    return max(count / MAX_ROUNDS, min(count / MIN_ROUNDS, spent))


class _Visits:
    """Times sessions one after the other."""

    def __init__(self, rest: bool) -> None:
        self._rest = rest
        self.by_device = False

    def time(self, runner: Timed, typical_ns: float) -> float:
        """Nanoseconds of an inference: the lower quartile of a measurement, after a lead-in."""
        if self._rest:
            wait_for_rest()
        runner.run(repeats_for(typical_ns, LEAD_IN_NS))
        host = runner.run(max(MIN_INFERENCES, repeats_for(typical_ns, MEASURE_NS)))
        device = runner.device_ns
        self.by_device = device is not None
        return max(1.0, float(quartile((host if device is None else device).astype(np.float64))))
