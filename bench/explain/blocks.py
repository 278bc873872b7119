"""Measuring the two networks with and without the profiler, in turns, so that load falls on all alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.bench.backends import Runner
from compress.bench.explain.profilers import Profiled, Session
from compress.bench.protocol import paired, stats
from compress.bench.protocol.machine import OthersLoad, wait_for_rest
from compress.bench.protocol.paired import LEAD_IN_NS, MEASURE_NS, collector_off, repeats_for
from compress.bench.protocol.stats import Interval

PROFILED_AT_LEAST = 5
"""Fewest inferences of a block with the profiler on."""

Times = NDArray[np.float64]


@dataclass(frozen=True)
class Blocks:
    """What the blocks gave; times in nanoseconds of one inference, `[blocks]`, each a median.

    Attributes:
        dense, again, compact: without the profiler; `again` is a second session of the dense network.
        dense_profile, compact_profile: with it.
        speedup: interval of ``log(dense / compact)``. same: of ``log(dense / again)``.
        others_load: share of the processors that other processes took.
    """

    dense: Times
    again: Times
    compact: Times
    dense_profile: Profiled
    compact_profile: Profiled
    speedup: Interval
    same: Interval
    others_load: float


def measure(
    runners: tuple[Runner, Runner, Runner],
    sessions: tuple[Session, Session],
    blocks: int,
    report: Callable[[float], None],
) -> Blocks:
    """Measure in blocks, every other one in reverse order.

    Args:
        runners: dense, dense again and compact, without the profiler.
        sessions: dense and compact with it.
        blocks: how many, each one pair.
        report: told the share that is done.
    """
    warm = [paired.warm_up(runner).typical_ns for runner in runners]
    counts = [max(PROFILED_AT_LEAST, repeats_for(warm[i], MEASURE_NS)) for i in (0, 2)]
    times: list[list[float]] = [[], [], []]

    def alone(i: int) -> None:
        wait_for_rest()
        runners[i].run(repeats_for(warm[i], LEAD_IN_NS))
        host = runners[i].run(repeats_for(warm[i], MEASURE_NS))
        device = runners[i].device_ns
        times[i].append(float(np.median(host if device is None else device)))

    def profiled(i: int) -> None:
        wait_for_rest()
        sessions[i].run(counts[i])

    steps: list[tuple[Callable[[int], None], int]] = [
        (alone, 1), (alone, 0), (profiled, 0), (profiled, 1), (alone, 2)
    ]  # fmt: skip
    others = OthersLoad()
    with collector_off():
        for block in range(blocks):
            for step, i in steps if block % 2 == 0 else reversed(steps):
                step(i)
            report((block + 1) / blocks)
    load = others.share()
    found = [session.finish() for session in sessions]
    dense, again, compact = (np.array(part) for part in times)
    return Blocks(
        dense,
        again,
        compact,
        found[0],
        found[1],
        stats.interval(stats.log_ratios(dense, compact)),
        stats.interval(stats.log_ratios(dense, again)),
        load,
    )
