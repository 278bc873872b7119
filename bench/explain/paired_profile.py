"""Measure both networks with and without the profiler in alternating blocks, so load affects all equally."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.bench.backends import Profiled, ProfileSession, Runner
from compress.bench.protocol import paired, stats
from compress.bench.protocol.machine import OthersLoad, wait_for_rest
from compress.bench.protocol.paired import LEAD_IN_NS, MEASURE_NS, collector_off, repeats_for
from compress.bench.protocol.stats import Interval

MIN_PROFILED = 5
"""Fewest profiled inferences of a block."""

Times = NDArray[np.float64]


@dataclass(frozen=True)
class PairedProfile:
    """Times and profiles of both networks; times are medians in nanoseconds of one inference, `[blocks]`.

    Attributes:
        dense, again, compact: without the profiler; `again` is a second session of the dense network.
        dense_profile, compact_profile: per-node times.
        speedup: interval of ``log(dense / compact)``.
        same: interval of ``log(dense / again)``, the noise floor.
        others_load: share of the processors that other processes used, 0 to 1.
    """

    dense: Times
    again: Times
    compact: Times
    dense_profile: Profiled
    compact_profile: Profiled
    speedup: Interval
    same: Interval
    others_load: float


def profile_in_pairs(
    runners: tuple[Runner, Runner, Runner],
    sessions: tuple[ProfileSession, ProfileSession],
    blocks: int,
    report: Callable[[float], None],
) -> PairedProfile:
    """Measure in blocks, every second one in reverse order.

    Args:
        runners: dense, dense again and compact, without the profiler.
        sessions: dense and compact, with the profiler.
        blocks: number of blocks; each is one pair.
        report: called with the share that is done, 0 to 1.
    """
    warm = [paired.warm_up(runner).typical_ns for runner in runners]
    counts = [max(MIN_PROFILED, repeats_for(warm[i], MEASURE_NS)) for i in (0, 2)]
    times: list[list[float]] = [[], [], []]

    def run_plain(i: int) -> None:
        wait_for_rest()
        runners[i].run(repeats_for(warm[i], LEAD_IN_NS))
        host = runners[i].run(repeats_for(warm[i], MEASURE_NS))
        device = runners[i].device_ns
        times[i].append(float(np.median(host if device is None else device)))

    def run_profiled(i: int) -> None:
        wait_for_rest()
        sessions[i].run(counts[i])

    steps: list[tuple[Callable[[int], None], int]] = [
        (run_plain, 1), (run_plain, 0), (run_profiled, 0), (run_profiled, 1), (run_plain, 2)
    ]  # fmt: skip
    others = OthersLoad()
    with collector_off():
        for block in range(blocks):
            for step, i in steps if block % 2 == 0 else reversed(steps):
                step(i)
            report((block + 1) / blocks)
    load = others.share()
    dense_profile, compact_profile = (session.finish() for session in sessions)
    dense, again, compact = (np.array(values) for values in times)
    return PairedProfile(
        dense,
        again,
        compact,
        dense_profile,
        compact_profile,
        stats.interval(stats.log_ratios(dense, compact)),
        stats.interval(stats.log_ratios(dense, again)),
        load,
    )
