"""Comparing two runners in pairs: warm up, then alternate them in ABBA blocks.

Load that comes and goes slows both sides of a pair alike, and the order ABBA cancels a steady drift; the
ratio of a pair is what stays. What is compared first is a runner with a second one of the same file (A/A):
it shows how far the machine differs from itself.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.bench.backends import Timed
from compress.bench.protocol import stats
from compress.bench.protocol.machine import wait_for_rest
from compress.bench.protocol.stats import Interval

PAIRS = 30
"""Pairs measured when no budget is given."""

MIN_PAIRS = 10
"""Fewest pairs of a comparison, however small the budget."""

BLOCK_PAIRS = 2
"""Pairs of an ABBA block."""

MEASURE_NS = 20_000_000
"""One measurement repeats the inference until it lasts about this long (20 ms)."""

LEAD_IN_NS = 5_000_000
"""Untimed inferences of at least this long (5 ms) come first when the other runner ran before."""

WARM_UP_NS = 300_000_000
"""Shortest warm-up (0.3 s)."""

WARM_UP_LIMIT_NS = 5_000_000_000
"""Longest warm-up (5 s)."""

SHORT_WARM_UP_NS = 100_000_000
"""Shortest warm-up of a session among several (0.1 s)."""

SHORT_WARM_UP_LIMIT_NS = 300_000_000
"""Longest warm-up of a session among several (0.3 s)."""

WINDOWS = 3
"""Windows that a warm-up looks back on, and its fewest."""

SETTLED_WITHIN = 0.03
"""The warm-up ends when the medians of its last three windows lie this near to each other."""

Report = Callable[[float], None]


@dataclass(frozen=True)
class WarmUp:
    """How a runner was warmed up.

    Attributes:
        first_ns: the first inference.
        count: inferences, the first one included.
        total_ns: how long they took together.
        settled: whether the median came to rest before the limit.
        typical_ns: smallest median of a window; under load the others are too long, and a measurement of too
            few repeats would hang on single interruptions.
    """

    first_ns: int
    count: int
    total_ns: int
    settled: bool
    typical_ns: float


@dataclass(frozen=True)
class Comparison:
    """Two runners, measured in pairs.

    Attributes:
        ratio: interval of ``log(a / b)``.
        ratios: that of each pair, `[pairs]`, in the order measured.
        a_ns, b_ns: the time of every inference.
        repeats: inferences of one measurement, of each side.
        device: the same by the device's clock; None for runners without a device of their own.
    """

    ratio: Interval
    ratios: NDArray[np.float64]
    a_ns: NDArray[np.int64]
    b_ns: NDArray[np.int64]
    repeats: tuple[int, int]
    device: DeviceTimes | None = None


@dataclass(frozen=True)
class DeviceTimes:
    """What the device's clock says of a comparison: see the attributes of `Comparison`."""

    ratio: Interval
    ratios: NDArray[np.float64]
    a_ns: NDArray[np.int64]
    b_ns: NDArray[np.int64]


class _Side:
    """The measurements of one runner, by both clocks."""

    def __init__(self, runner: Timed, typical_ns: float, measure_ns: int) -> None:
        self.runner, self.typical_ns = runner, typical_ns
        self.repeats = repeats_for(typical_ns, measure_ns)
        self.host = list[NDArray[np.int64]]()
        self.device = list[NDArray[np.int64]]()

    def take_over(self) -> None:
        """Let the other runner's threads come to rest, then run this one untimed."""
        wait_for_rest()
        self.runner.run(repeats_for(self.typical_ns, LEAD_IN_NS))

    def measure(self) -> None:
        self.host.append(self.runner.run(self.repeats))
        device = self.runner.device_ns
        if device is not None:
            self.device.append(device)


def warm_up(runner: Timed, *, at_least_ns: int = WARM_UP_NS, at_most_ns: int = WARM_UP_LIMIT_NS) -> WarmUp:
    """Run a new runner until its median settles, or for `at_most_ns`; the first inference is reported apart.

    Time is what the runner reports, in windows of about a sixth of `at_least_ns`.
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
            if (
                total >= at_least_ns
                and len(last) == WINDOWS
                and max(last) <= min(last) * (1 + SETTLED_WITHIN)
            ):
                return WarmUp(first, count, total, True, min(medians))
    return WarmUp(first, count, total, False, min(medians))


def repeats_for(typical_ns: float, measure_ns: int = MEASURE_NS) -> int:
    """Return how many inferences of `typical_ns` make a measurement of at least `measure_ns`."""
    return max(1, math.ceil(measure_ns / max(typical_ns, 1.0)))


def compare(
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
) -> Comparison:
    """Measure two warm runners in ABBA blocks of two pairs each.

    A measurement repeats the inference for about `measure_ns` or longer; its value is the median of the
    repeats. Where the other runner ran before, its threads are waited for and a lead-in of `LEAD_IN_NS`
    brings the data back into the caches.

    Args:
        a, b: the baseline and the candidate.
        typical_ns: time of one inference of each, from the warm-up.
        pairs: how many pairs, rounded up to whole blocks.
        budget_s: measure for this many seconds instead. at_least: pairs, however small the budget.
        measure_ns: see `MEASURE_NS`.
        seed: of the bootstrap.
        report: called after each block with the share done, 0 to 1.
        clock: seconds, for the budget.
    """
    one, other = (
        _Side(runner, typical, measure_ns) for runner, typical in zip((a, b), typical_ns, strict=True)
    )
    start = clock()
    with collector_off():
        one.take_over()
        while True:
            one.measure()
            other.take_over()
            other.measure()
            other.measure()
            one.take_over()
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
        apart = stats.interval(device_ratios, seed=seed)
        device = DeviceTimes(apart, device_ratios, np.concatenate(one.device), np.concatenate(other.device))
    return Comparison(
        stats.interval(ratios, seed=seed),
        ratios,
        np.concatenate(one.host),
        np.concatenate(other.host),
        (one.repeats, other.repeats),
        device,
    )


def _log_ratios(a: list[NDArray[np.int64]], b: list[NDArray[np.int64]]) -> NDArray[np.float64]:
    """The log-ratio of each pair of measurements, of their medians."""
    return stats.log_ratios([np.median(part) for part in a], [np.median(part) for part in b])


def _share_done(measured: int, pairs: int, at_least: int, elapsed_s: float, budget_s: float | None) -> float:
    if budget_s is None:
        return measured / pairs
    return min(measured / at_least, elapsed_s / budget_s if budget_s > 0 else 1.0)


@contextmanager
def collector_off() -> Iterator[None]:
    """Collect garbage now and not while the block runs."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
