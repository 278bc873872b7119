"""Offline scenario: throughput at batch sizes 1, 2, 4, ... up to the memory limit."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from compress.bench.protocol import paired
from compress.bench.protocol.stats import CONFIDENCE, student_quantile
from compress.bench.protocol.worker import Progress
from compress.bench.results import record
from compress.bench.scenarios.memory_limit import (
    GpuMemory,
    HostMemory,
    MemoryLimit,
    MemoryMeter,
    is_out_of_memory,
)
from compress.bench.scenarios.network_pair import ConditionsMonitor, NetworkPair
from compress.bench.scenarios.options import Options
from compress.bench.scenarios.record import Offline, OfflineBatch, Throughput
from compress.core.errors import CompressError, Exit

BATCH_S = 5.0
"""Seconds per batch size; at least `compress.bench.protocol.paired.MIN_PAIRS` pairs are measured."""

PROTOCOL = (
    "all images are available at the start; at batch sizes 1, 2, 4, ... both networks are loaded, warmed up "
    "and measured alternately in ABBA blocks; throughput is images over the time of all inferences, with a "
    "95% interval over the measurements; the sweep ends before a batch size that is predicted, from the "
    "memory of the last one, not to fit into memory, or to take too long; all in one process: variation "
    "between processes is not in the intervals"
)


def measure_offline(networks: NetworkPair, options: Options, say: Progress) -> Offline:
    """Measure increasing batch sizes up to the limits of memory, time and options.

    Raises:
        CompressError: not even the first batch size could be measured (exit BUILD).
    """
    monitor, batches = ConditionsMonitor(), list[OfflineBatch]()
    memory = MemoryLimit(_meters(networks))
    size = 1
    while (stopped := _stop_reason(size, batches, memory, options, monitor)) is None:
        say(f"offline, batch {size:,}", 1 - 0.85 ** len(batches))
        try:
            batches.append(_measure_batch(networks, size, options, memory))
        except Exception as error:  # every runtime raises a class of its own
            if not is_out_of_memory(error):
                raise
            stopped = f"memory: a batch of {size:,} ran out of memory"
            break
        size = _next_size(size, options.max_batch)
    if not batches:
        raise CompressError(
            f"the offline scenario could not measure any batch size: {stopped}",
            hint="close other programs that use memory, or use a machine with more",
            code="out-of-memory",
            exit=Exit.BUILD,
        )
    return _result(batches, stopped, monitor)


def _meters(networks: NetworkPair) -> list[MemoryMeter]:
    """Return the meters of the host and, if the networks run on a GPU, of the GPU."""
    with networks.loaded(1) as runners:
        runners[0].run(1)
        on_gpu = runners[0].device_ns is not None
    return [GpuMemory(), HostMemory()] if on_gpu else [HostMemory()]


def _next_size(size: int, largest: int | None) -> int:
    """Return twice the size, limited to the largest allowed one."""
    return 2 * size if largest is None or size >= largest else min(2 * size, largest)


def _stop_reason(
    size: int,
    batches: list[OfflineBatch],
    memory: MemoryLimit,
    options: Options,
    monitor: ConditionsMonitor,
) -> str | None:
    """Return why a batch size must not be measured, or None."""
    if options.max_batch is not None and size > options.max_batch:
        return f"the largest batch allowed is {options.max_batch:,}"
    if not batches:
        return memory.reason_against(size)
    last = batches[-1]
    slowest = max(last.baseline.batch_ms, last.candidate.batch_ms) / 1e3
    predicted = slowest * size / last.batch
    if predicted > options.max_batch_s:
        return (
            f"time: a batch of {size:,} would take about {predicted:.3g} s; the limit is "
            f"{options.max_batch_s:g} s"
        )
    if options.budget_s is not None and monitor.seconds() >= options.budget_s:
        return "the budget is used up"
    return memory.reason_against(size)


def _measure_batch(networks: NetworkPair, size: int, options: Options, memory: MemoryLimit) -> OfflineBatch:
    with networks.loaded(size) as runners:
        warm = [paired.warm_up(runner) for runner in runners]
        typical = warm[0].typical_ns, warm[1].typical_ns
        pair_s = sum(max(paired.MEASURE_NS, ns) for ns in typical) / 1e9
        times = paired.compare_in_pairs(
            *runners,
            typical_ns=typical,
            pairs=min(options.pairs, max(paired.MIN_PAIRS, round(BATCH_S / pair_s))),
            seed=networks.config.seed,
        )
        memory.record(size)
    ratio = record.ratio_record(times.ratio)
    sides = [
        _throughput(side.label, size, ns.reshape(-1, repeats))
        for side, ns, repeats in zip(networks.sides, (times.a_ns, times.b_ns), times.repeats, strict=True)
    ]
    return OfflineBatch(
        batch=size, baseline=sides[0], candidate=sides[1], ratio=ratio, grown_bytes=memory.growth
    )


def _throughput(label: str, batch: int, measurements: NDArray[np.int64]) -> Throughput:
    """Return the throughput of times `[measurements, repeats]`; a measurement's mean is one sample."""
    means = measurements.mean(axis=1)
    mean = float(means.mean())
    error = float(means.std(ddof=1)) / math.sqrt(len(means))
    reach = student_quantile((1 + CONFIDENCE) / 2, len(means) - 1) * error
    images = batch * 1e9
    return Throughput(
        label=label,
        batch=batch,
        images_per_s=images / mean,
        low=images / (mean + reach),
        high=images / (mean - reach) if mean > reach else None,
        batch_ms=float(np.median(measurements)) / 1e6,
        count=measurements.size,
    )


def _result(batches: list[OfflineBatch], stopped: str, monitor: ConditionsMonitor) -> Offline:
    baseline = max((entry.baseline for entry in batches), key=lambda side: side.images_per_s)
    candidate = max((entry.candidate for entry in batches), key=lambda side: side.images_per_s)
    return Offline(
        batches=tuple(batches),
        stopped=stopped,
        best=(baseline, candidate),
        best_ratio=candidate.images_per_s / baseline.images_per_s,
        best_low=0.0 if baseline.high is None else candidate.low / baseline.high,
        best_high=None if candidate.high is None else candidate.high / baseline.low,
        **monitor.fields(),
    )
