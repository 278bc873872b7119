"""Time many widths of one layer in rounds: every width once per round, in random order.

Slow phases of the machine affect all widths equally often. An interruption by another process only ever adds
time, and on a busy machine most of the longer inferences are interrupted. The time of a width is therefore
the lower quartile of its inferences in a round, and then of its rounds. Ratios are relative to the full
width, which is timed several times per round.
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
from compress.bench.protocol.paired import collector_off, repeats_for
from compress.bench.protocol.stats import CONFIDENCE

MIN_ROUNDS = 7
"""Fewest rounds, whatever the budget."""

MAX_ROUNDS = 40
"""Most rounds; more do not improve the result."""

REFERENCE_EVERY = 5
"""The full width is timed at least once per this many widths."""

RESAMPLES = 2000
"""Bootstrap resamples of the intervals."""

MEASURE_NS = 8_000_000
"""A measurement repeats the inference for about this long (8 ms)."""

MIN_INFERENCES = 4
"""Fewest inferences of a measurement, so that one of them is probably not interrupted."""

LEAD_IN_NS = 2_000_000
"""Untimed inferences of about this length (2 ms) precede each measurement."""

WARM_UP_NS = 60_000_000
"""Warm-up of each width (60 ms)."""

WARM_UP_LIMIT_NS = 600_000_000
"""Longest warm-up of the full width (0.6 s), which is repeated until its times are stable."""


@dataclass(frozen=True)
class RoundTimes:
    """Times in nanoseconds.

    Attributes:
        widths_ns: time of each width, ascending, in each round, `[rounds, widths]`.
        full_ns: times of the full width's first session, `[rounds, times]`.
        by_device: whether they are measured by the clock of the device.
    """

    widths_ns: NDArray[np.float64]
    full_ns: NDArray[np.float64]
    by_device: bool


@dataclass(frozen=True)
class WidthRatios:
    """Times of the widths relative to the full width.

    Attributes:
        value, low, high: ratios and the ends of their 95% intervals, `[widths]`.
        full_ns: time of the full width in nanoseconds.
    """

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    full_ns: float


def lower_quartile(times: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """Return the lower quartile along an axis, without interpolation."""
    ordered = np.sort(times, axis=axis)
    quartile: NDArray[np.float64] = ordered.take((times.shape[axis] - 1) // 4, axis=axis)
    return quartile


def width_ratios(times: RoundTimes, *, seed: int = 0) -> WidthRatios:
    """Return the ratios of the lower quartiles, with percentile bootstrap intervals over the rounds."""
    count = len(times.widths_ns)
    resampled = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))
    full = lower_quartile(times.full_ns[resampled].reshape(RESAMPLES, -1))
    ratios = lower_quartile(times.widths_ns[resampled], axis=1) / full[:, None]
    tail = (1 - CONFIDENCE) / 2
    full_ns = float(lower_quartile(times.full_ns.reshape(-1)))
    value = lower_quartile(times.widths_ns, axis=0) / full_ns
    low, high = np.quantile(ratios, [tail, 1 - tail], axis=0)
    return WidthRatios(value, np.minimum(low, value), np.maximum(high, value), full_ns)


def warm_up(runner: Timed, *, until_stable: bool = False) -> float:
    """Warm a new session up and return the median time of an inference in nanoseconds.

    Args:
        runner: the session.
        until_stable: repeat until the times are stable, for `WARM_UP_LIMIT_NS` at most; otherwise run for
            `WARM_UP_NS`. A short warm-up is enough after a first session has brought the machine to speed,
            since the lower quartile of the rounds leaves slow first inferences out.
    """
    if until_stable:
        stable = paired.warm_up(runner, at_least_ns=WARM_UP_NS, at_most_ns=WARM_UP_LIMIT_NS)
        return stable.typical_ns
    with collector_off():
        first = float(runner.run(1)[0])
        return float(np.median(runner.run(max(1, repeats_for(first, WARM_UP_NS)))))


def measure_rounds(
    runners: Mapping[int, Timed],
    full: Timed,
    typical_ns: Mapping[int, float],
    *,
    budget_s: float,
    rest: bool,
    seed: int = 0,
    report: Callable[[float], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> RoundTimes:
    """Time the widths in rounds until the budget is used up.

    Args:
        runners: warm sessions by width. The full width among them is a second session of `full`.
        full: session of the full width.
        typical_ns: typical time of an inference at each width.
        budget_s: seconds; at least `MIN_ROUNDS` and at most `MAX_ROUNDS` are measured.
        rest: wait before each measurement until the threads of the previous session are idle.
        seed: seed of the order.
        report: called after each round with the share that is done, 0 to 1.
        clock: seconds, for the budget.
    """
    widths = sorted(runners)
    rng, timer = np.random.default_rng(seed), _SessionTimer(rest)
    times, references = list[list[float]](), list[list[float]]()
    start = clock()
    with collector_off():
        while True:
            by_width, full_times = dict[int, float](), list[float]()
            for i, width in enumerate(int(width) for width in rng.permutation(widths)):
                if i % REFERENCE_EVERY == 0:
                    full_times.append(timer.time(full, typical_ns[widths[-1]]))
                by_width[width] = timer.time(runners[width], typical_ns[width])
            times.append([by_width[width] for width in widths])
            references.append(full_times)
            done = _share_done(len(times), clock() - start, budget_s)
            if report is not None:
                report(min(done, 1.0))
            if done >= 1:
                return RoundTimes(np.array(times), np.array(references), timer.by_device)


def _share_done(count: int, elapsed_s: float, budget_s: float) -> float:
    spent = elapsed_s / budget_s if budget_s > 0 else 1.0
    return max(count / MAX_ROUNDS, min(count / MIN_ROUNDS, spent))


class _SessionTimer:
    """Times sessions one after the other."""

    def __init__(self, rest: bool) -> None:
        self._rest = rest
        self.by_device = False

    def time(self, runner: Timed, typical_ns: float) -> float:
        """Return the nanoseconds of an inference: the lower quartile of a measurement, after a lead-in."""
        if self._rest:
            wait_for_rest()
        runner.run(repeats_for(typical_ns, LEAD_IN_NS))
        host = runner.run(max(MIN_INFERENCES, repeats_for(typical_ns, MEASURE_NS)))
        device = runner.device_ns
        self.by_device = device is not None
        return max(1.0, float(lower_quartile((host if device is None else device).astype(np.float64))))
