"""Offline: throughput over batch sizes 1, 2, 4, ... up to memory, both networks in turns at each."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from compress.bench.protocol import paired
from compress.bench.protocol.measure import Progress
from compress.bench.protocol.stats import CONFIDENCE
from compress.bench.results import record
from compress.bench.scenarios.headroom import GpuMemory, Headroom, HostMemory, Meter, ran_out
from compress.bench.scenarios.loaded import Networks, Watch
from compress.bench.scenarios.options import Options
from compress.bench.scenarios.record import Offline, OfflineBatch, Throughput
from compress.core.errors import CompressError, Exit

BATCH_S = 5.0
"""Seconds of measuring one batch size; never fewer than `compress.bench.protocol.paired.MIN_PAIRS` pairs."""

PROTOCOL = (
    "all images lie ready; batch sizes 1, 2, 4, ...: both networks are loaded, warmed up and take turns "
    "in ABBA blocks; throughput is images over the time of all inferences, with a 95% interval over the "
    "measurements; the sweep ends before a batch size that memory, foreseen from the growth of the last "
    "one, might not hold, or that would take too long; all in one process: how another process would "
    "differ is not in the intervals"
)


def offline(networks: Networks, options: Options, say: Progress) -> Offline:
    """Measure batch sizes until one must not be begun.

    Raises:
        CompressError: not even the first batch size could be measured (exit BUILD).
    """
    watch, batches = Watch(), list[OfflineBatch]()
    headroom = Headroom(_meters(networks))
    size = 1
    while (stopped := _stop(size, batches, headroom, options, watch)) is None:
        say(f"offline, batch {size:,}", 1 - 0.85 ** len(batches))
        try:
            batches.append(_batch(networks, size, options, headroom))
        except Exception as error:  # every runtime has a class of its own for it
            if not ran_out(error):
                raise
            stopped = f"memory: a batch of {size:,} ran out of it"
            break
        size = _next(size, options.max_batch)
    if not batches:
        raise CompressError(
            f"the offline scenario measured no batch size: {stopped}",
            hint="close what else takes memory, or use a machine with more",
            code="out-of-memory",
            exit=Exit.BUILD,
        )
    return _result(batches, stopped, watch)


def _meters(networks: Networks) -> list[Meter]:
    """What can run out: the memory of a GPU where the network runs on one, and the host's."""
    with networks.loaded(1) as runners:
        runners[0].run(1)
        on_gpu = runners[0].device_ns is not None
    return [GpuMemory(), HostMemory()] if on_gpu else [HostMemory()]


def _next(size: int, largest: int | None) -> int:
    """The double, or the largest one allowed where that is nearer."""
    return 2 * size if largest is None or size >= largest else min(2 * size, largest)


def _stop(
    size: int, batches: list[OfflineBatch], headroom: Headroom, options: Options, watch: Watch
) -> str | None:
    """Why a batch size must not be begun, or None."""
    if options.max_batch is not None and size > options.max_batch:
        return f"the largest batch allowed was {options.max_batch:,}"
    if not batches:
        return headroom.forbids(size)
    last = batches[-1]
    slowest = max(last.baseline.batch_ms, last.candidate.batch_ms) / 1e3
    foreseen = slowest * size / last.batch
    if foreseen > options.max_batch_s:
        allowed = f"{options.max_batch_s:g} s are allowed"
        return f"time: a batch of {size:,} would take about {foreseen:.3g} s, and {allowed}"
    if options.budget_s is not None and watch.seconds() >= options.budget_s:
        return "the budget ended"
    return headroom.forbids(size)


def _batch(networks: Networks, size: int, options: Options, headroom: Headroom) -> OfflineBatch:
    with networks.loaded(size) as runners:
        warm = [paired.warm_up(runner) for runner in runners]
        typical = warm[0].typical_ns, warm[1].typical_ns
        one_s = sum(max(paired.MEASURE_NS, ns) for ns in typical) / 1e9
        found = paired.compare(
            *runners,
            typical_ns=typical,
            pairs=min(options.pairs, max(paired.MIN_PAIRS, round(BATCH_S / one_s))),
            seed=networks.config.seed,
        )
        headroom.measured(size)
    ratio = record.ratio_record(found.ratio)
    sides = [
        _throughput(side.label, size, ns.reshape(-1, repeats))
        for side, ns, repeats in zip(networks.sides, (found.a_ns, found.b_ns), found.repeats, strict=True)
    ]
    return OfflineBatch(
        batch=size, baseline=sides[0], candidate=sides[1], ratio=ratio, grown_bytes=headroom.grown
    )


def _throughput(label: str, batch: int, measurements: NDArray[np.int64]) -> Throughput:
    """Throughput of times `[measurements, repeats]`: each measurement's mean counts as one draw."""
    means = measurements.mean(axis=1)
    mean = float(means.mean())
    error = float(means.std(ddof=1)) / math.sqrt(len(means))
    reach = float(student.ppf((1 + CONFIDENCE) / 2, len(means) - 1)) * error
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


def _result(batches: list[OfflineBatch], stopped: str, watch: Watch) -> Offline:
    baseline = max((entry.baseline for entry in batches), key=lambda side: side.images_per_s)
    candidate = max((entry.candidate for entry in batches), key=lambda side: side.images_per_s)
    return Offline(
        batches=tuple(batches),
        stopped=stopped,
        best=(baseline, candidate),
        best_ratio=candidate.images_per_s / baseline.images_per_s,
        best_low=0.0 if baseline.high is None else candidate.low / baseline.high,
        best_high=None if candidate.high is None else candidate.high / baseline.low,
        **watch.said(),
    )
