"""Merge the measurements of several sessions into one record."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median_low

import numpy as np
from numpy.typing import NDArray

from compress.bench.protocol import gpu, stats
from compress.bench.protocol.paired import WarmUp
from compress.bench.protocol.stats import Interval, Latency
from compress.bench.protocol.worker import BatchMeasurements, Pairs, Side, SideMeasurements
from compress.bench.results import record
from compress.bench.results.record import BatchRecord, SessionRecord, SideRecord

SESSIONS = 9
"""Sessions of a comparison when no number is given.

The interval over nine (`stats.over_sessions`) has the second smallest and the second largest median as its
ends, so one disturbed session on either side does not move it.
"""

Times = list[NDArray[np.int64]]
"""Times of one side: an array `[inferences]` for each session."""


def merge_sessions(
    sessions: Sequence[BatchMeasurements], baseline: Side, candidate: Side, seed: int
) -> BatchRecord:
    """Return the record of a comparison at one batch size.

    Args:
        sessions: measurements of each session, in order; the first one includes energy and memory.
        baseline, candidate: the compared networks.
        seed: seed of the bootstrap within a session.
    """
    noise = stats.over_sessions([one.same.ratios for one in sessions], seed=seed)
    ratio = stats.over_sessions([one.other.ratios for one in sessions], seed=seed)
    device = [one.device for one in sessions if one.device is not None]
    speedup = record.ratio_record(ratio)
    macs = baseline.macs, candidate.macs
    reduction = None if macs[0] is None or macs[1] is None else macs[0] / max(macs[1], 1)
    states = [one.gpu for one in sessions]
    blocks = [block for state in states if state is not None for block in state]
    return BatchRecord(
        batch=sessions[0].batch,
        baseline=_side(baseline.label, 0, sessions, [one.baseline for one in sessions], device),
        candidate=_side(candidate.label, 1, sessions, [one.candidate for one in sessions], device),
        noise=record.ratio_record(noise),
        floor=noise.reach,
        speedup=speedup,
        device_speedup=record.ratio_record(_by_device(device, seed)) if device else None,
        verdict=stats.verdict(ratio, noise.reach),
        mac_reduction=reduction,
        efficiency=None if reduction is None else speedup.ratio / reduction,
        others_load=fmean(one.others_load for one in sessions),
        gpu=None if None in states else gpu.gpu_record(blocks),
        sessions=tuple(_session(one, seed) for one in sessions),
    )


def _by_device(device: Sequence[Pairs], seed: int) -> Interval:
    return stats.over_sessions([one.ratios for one in device], seed=seed)


def _session(one: BatchMeasurements, seed: int) -> SessionRecord:
    return SessionRecord(
        noise=record.ratio_record(stats.interval(one.same.ratios, seed=seed)),
        speedup=record.ratio_record(stats.interval(one.other.ratios, seed=seed)),
        others_load=one.others_load,
    )


def _side(
    label: str,
    i: int,
    sessions: Sequence[BatchMeasurements],
    own: Sequence[SideMeasurements],
    device: Sequence[Pairs],
) -> SideRecord:
    first = own[0]
    assert first.memory is not None
    repeats = [one.other.repeats[i] for one in sessions]
    by_session: Times = [(one.other.a_ns, one.other.b_ns)[i] for one in sessions]
    on_device: Times = [(one.a_ns, one.b_ns)[i] for one in device]
    return record.side_record(
        label,
        _warm([one.warm for one in own]),
        _latency(by_session, repeats),
        load_ns=median_low(one.load_ns for one in own),
        batch=sessions[0].batch,
        repeats=median_low(repeats),
        memory=first.memory,
        device=stats.latency(np.concatenate(on_device)) if on_device else None,
        energy=first.energy,
    )


def _latency(sessions: Times, repeats: Sequence[int]) -> Latency:
    """Summarize the times of all sessions; times of one measurement, and of one session, are correlated."""
    measurements = [
        part for times, count in zip(sessions, repeats, strict=True) for part in times.reshape(-1, count)
    ]
    return stats.latency(np.concatenate(sessions), clusters=(measurements, sessions))


def _warm(warm_ups: Sequence[WarmUp]) -> WarmUp:
    """Merge the warm-ups of all sessions: medians, sums, and whether all became stable."""
    return WarmUp(
        first_ns=median_low(one.first_ns for one in warm_ups),
        count=sum(one.count for one in warm_ups),
        total_ns=sum(one.total_ns for one in warm_ups),
        settled=all(one.settled for one in warm_ups),
        typical_ns=median_low(one.typical_ns for one in warm_ups),
    )
