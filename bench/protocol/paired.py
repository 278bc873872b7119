"""Compare two runners in pairs: warm up, then alternate them in ABBA blocks.

Varying load slows both sides of a pair alike, and the order ABBA cancels a steady drift, so the ratio of a
pair is robust to both. An A/A comparison, of a runner with a second one of the same file, gives the noise
floor.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from compress.bench.backends import Timed
from compress.bench.protocol import stats
from compress.bench.protocol.machine import wait_for_rest
from compress.bench.protocol.stats import Interval

PAIRS = 30
"""Default number of pairs without a budget."""

MIN_PAIRS = 10
"""Smallest number of pairs of a comparison, with any budget."""

BLOCK_PAIRS = 2
"""Pairs of an ABBA block."""

MEASURE_NS = 20_000_000
"""One measurement repeats the inference until it lasts about this long (20 ms)."""

LEAD_IN_NS = 5_000_000
"""Duration of the untimed inferences (5 ms) before a measurement if the other runner ran last."""

WARM_UP_NS = 300_000_000
"""Shortest warm-up (0.3 s)."""

WARM_UP_LIMIT_NS = 5_000_000_000
"""Longest warm-up (5 s)."""

SHORT_WARM_UP_NS = 100_000_000
"""Shortest warm-up of a session among several (0.1 s)."""

SHORT_WARM_UP_LIMIT_NS = 300_000_000
"""Longest warm-up of a session among several (0.3 s)."""

WINDOWS = 3
"""Number of last windows that must agree to end a warm-up; also its smallest number of windows."""

STABLE_WITHIN = 0.03
"""Relative difference of the medians of the last windows at which a warm-up ends."""

Report = Callable[[float], None]


@dataclass(frozen=True)
class WarmUp:
    """Result of warming up a runner.

    Attributes:
        first_ns: time of the first inference.
        count: number of inferences, including the first.
        total_ns: sum of their times.
        settled: whether the median became stable before the limit.
        typical_ns: smallest median of a window. Under load the others are too long, and a measurement with
            too few repeats would be sensitive to single interruptions.
    """

    first_ns: int
    count: int
    total_ns: int
    settled: bool
    typical_ns: float


@dataclass(frozen=True)
class PairedComparison:
    """Two runners, measured in pairs.

    Attributes:
        ratios: ``log(a / b)`` of each pair, `[pairs]`, in the order measured.
        a_ns, b_ns: time of every inference, `[inferences]`.
        repeats: inferences per measurement, for each side.
        device: the same by the device's clock; None for runners without a device.
        seed: seed of the bootstrap.
    """

    ratios: NDArray[np.float64]
    a_ns: NDArray[np.int64]
    b_ns: NDArray[np.int64]
    repeats: tuple[int, int]
    device: DeviceTimes | None = None
    seed: int = 0

    @cached_property
    def ratio(self) -> Interval:
        """Interval of the log-ratio; computed on first use, since the import of SciPy takes long."""
        return stats.interval(self.ratios, seed=self.seed)


@dataclass(frozen=True)
class DeviceTimes:
    """Times of a comparison by the device's clock: see the attributes of `PairedComparison`."""

    ratios: NDArray[np.float64]
    a_ns: NDArray[np.int64]
    b_ns: NDArray[np.int64]
    seed: int = 0

    @cached_property
    def ratio(self) -> Interval:
        """Interval of the log-ratio; computed on first use."""
        return stats.interval(self.ratios, seed=self.seed)


class _MeasuredRunner:
    """The measurements of one runner, by both clocks."""

    def __init__(self, runner: Timed, typical_ns: float, measure_ns: int) -> None:
        self.runner, self.typical_ns = runner, typical_ns
        self.repeats = repeats_for(typical_ns, measure_ns)
        self.host = list[NDArray[np.int64]]()
        self.device = list[NDArray[np.int64]]()

    def prepare(self) -> None:
        """Wait until the other runner's threads are idle, then run this one untimed."""
        wait_for_rest()
        self.runner.run(repeats_for(self.typical_ns, LEAD_IN_NS))

    def measure(self) -> None:
        self.host.append(self.runner.run(self.repeats))
        device = self.runner.device_ns
        if device is not None:
            self.device.append(device)


def warm_up(runner: Timed, *, at_least_ns: int = WARM_UP_NS, at_most_ns: int = WARM_UP_LIMIT_NS) -> WarmUp:
    """Run a new runner until its median is stable, at most for `at_most_ns`.

    Times are those that the runner reports, in windows of about a sixth of `at_least_ns`.
    """
    wait_for_rest()
    with collector_off():
        first = int(runner.run(1)[0])
        total, count, medians = first, 1, list[float]()
        while total < at_most_ns or len(medians) < WINDOWS:
            size = max(1, round(at_least_ns / 6 / max(medians[-1] if medians else first, 1)))
            window = runner.run(min(size, 10_000))
            total, count = total + int(window.sum()), count + len(window)
            medians.append(float(np.median(window)))
            last = medians[-WINDOWS:]
            if total >= at_least_ns and len(last) == WINDOWS and max(last) <= min(last) * (1 + STABLE_WITHIN):
                return WarmUp(first, count, total, True, min(medians))
    return WarmUp(first, count, total, False, min(medians))


def repeats_for(typical_ns: float, measure_ns: int = MEASURE_NS) -> int:
    """Return the number of inferences of `typical_ns` for a measurement of at least `measure_ns`."""
    return max(1, math.ceil(measure_ns / max(typical_ns, 1.0)))


def compare_in_pairs(
    a: Timed,
    b: Timed,
    *,
    typical_ns: tuple[float, float],
    pairs: int = PAIRS,
    budget_s: float | None = None,
    at_least: int = MIN_PAIRS,
    measure_ns: int = MEASURE_NS,
    seed: int = 0,
    report: Report | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> PairedComparison:
    """Measure two warm runners in ABBA blocks of two pairs each.

    A measurement repeats the inference for at least `measure_ns`; its value is the median of the repeats.
    If the other runner ran last, the measurement first waits until its threads are idle, and untimed
    inferences of `LEAD_IN_NS` bring the data back into the caches.

    Args:
        a, b: the baseline and the candidate.
        typical_ns: time of one inference of each, from the warm-up.
        pairs: number of pairs, rounded up to whole blocks.
        budget_s: seconds to measure, instead of a number of pairs.
        at_least: smallest number of pairs with a budget.
        measure_ns: see `MEASURE_NS`.
        seed: seed of the bootstrap.
        report: called after each block with the share that is done, 0 to 1.
        clock: returns seconds, for the budget.
    """
    one, other = (
        _MeasuredRunner(runner, typical, measure_ns)
        for runner, typical in zip((a, b), typical_ns, strict=True)
    )
    start = clock()
    with collector_off():
        one.prepare()
        while True:
            one.measure()
            other.prepare()
            other.measure()
            other.measure()
            one.prepare()
            one.measure()
            done = _share_done(len(one.host), pairs, at_least, clock() - start, budget_s)
            if report is not None:
                report(min(done, 1.0))
            if done >= 1:
                break
    ratios = _log_ratios(one.host, other.host)
    device = None
    if one.device and other.device:
        device_ratios = _log_ratios(one.device, other.device)
        device = DeviceTimes(device_ratios, np.concatenate(one.device), np.concatenate(other.device), seed)
    return PairedComparison(
        ratios,
        np.concatenate(one.host),
        np.concatenate(other.host),
        (one.repeats, other.repeats),
        device,
        seed,
    )


def _log_ratios(a: list[NDArray[np.int64]], b: list[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Return the log-ratio of the medians of each pair of measurements."""
    return stats.log_ratios([np.median(part) for part in a], [np.median(part) for part in b])


def _share_done(measured: int, pairs: int, at_least: int, elapsed_s: float, budget_s: float | None) -> float:
    if budget_s is None:
        return measured / pairs
    return min(measured / at_least, elapsed_s / budget_s if budget_s > 0 else 1.0)


@contextmanager
def collector_off() -> Iterator[None]:
    """Collect garbage now and disable the collector inside the block."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
