"""Whether a rate of queries holds a bound on the p99: the interval decides, or more rounds do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum

import numpy as np

from compress.bench.scenarios.queue import Served
from compress.bench.scenarios.times import Times, times
from compress.core.spec import Record

BLOCKS = 10
"""Stretches of a round that count as drawn for the interval: queries of one busy time are late together."""

MAX_ROUNDS = 4
"""Most rounds of one rate."""

MIN_ROUND_S = 1.0
"""Shortest round: a fast network gets more queries."""

FULL = 5
"""Fewest inferences of the largest batch from which its time is taken for the offered load."""


class Outcome(StrEnum):
    """What a rate does to the bound."""

    HOLDS = "HOLDS"
    FAILS = "FAILS"
    UNDECIDED = "UNDECIDED"


class RateRecord(Record):
    """One network at one rate.

    Attributes:
        qps: queries a second that were asked for.
        answered_qps: queries over the time until the last was answered.
        rounds: of `times.count / rounds` queries each, every one beginning with an empty queue.
        times: latencies from the scheduled arrival to the answer.
        service_ms: mean time of an inference. mean_batch: queries of one.
        load: offered load: the rate times what a query takes of the worker when its batches are full. From 1
            on, the queue grows as long as queries come.
        utilisation: share of the time the worker was busy.
        mean_queue: queries waiting, the mean over the time. max_queue: at most.
        outcome, reason: whether the p99 keeps the bound.
    """

    qps: float
    answered_qps: float
    rounds: int
    times: Times
    service_ms: float
    mean_batch: float
    load: float
    utilisation: float
    mean_queue: float
    max_queue: int
    outcome: Outcome
    reason: str

    @property
    def capacity_qps(self) -> float:
        """Queries a second at an offered load of 1: how fast the network was while this rate was tried."""
        return self.qps / self.load


def queries_of(qps: float, least: int, capacity: float) -> int:
    """Return the queries of a round: at least so many, those answered in `MIN_ROUND_S`, and whole blocks."""
    return math.ceil(max(least, min(qps, capacity) * MIN_ROUND_S) / BLOCKS) * BLOCKS


def judged(
    qps: float, rounds: Sequence[Served], bound_ms: float, *, largest: int = 1, full_ns: float | None = None
) -> RateRecord:
    """Judge the rounds of a rate, all of as many queries (whole blocks of `BLOCKS`).

    A rate holds where the 95% interval of the p99 ends below the bound, and fails where it begins above it or
    where the offered load is 1 or more: what 1,000 queries of a queue that grows without end show depends on
    when one stops looking.

    Args:
        largest: batch size of an inference. full_ns: what one of that size takes, where too few were seen.
    """
    latencies = np.concatenate([round.latency_ns.reshape(BLOCKS, -1) for round in rounds])
    batches = np.concatenate([round.batches for round in rounds])
    lengths = np.concatenate([round.batch_ns for round in rounds])
    full = lengths[batches == largest]
    whole = float(full.mean()) if len(full) >= FULL or full_ns is None else full_ns
    span = sum(round.span_ns for round in rounds)
    load, summary = qps * whole / largest / 1e9, times(latencies)
    outcome, reason = _outcome(summary, bound_ms, load)
    return RateRecord(
        qps=qps,
        answered_qps=1e9 * latencies.size / span,
        rounds=len(rounds),
        times=summary,
        service_ms=float(lengths.mean()) / 1e6,
        mean_batch=float(batches.mean()),
        load=load,
        utilisation=float(lengths.sum()) / span,
        mean_queue=sum(float(round.wait_ns.sum()) for round in rounds) / span,
        max_queue=max(round.max_queue for round in rounds),
        outcome=outcome,
        reason=reason,
    )


def _outcome(found: Times, bound_ms: float, load: float) -> tuple[Outcome, str]:
    p99 = found.p99
    if p99 is None:
        return Outcome.UNDECIDED, f"{found.count:,} queries give no p99"
    end = "without end" if p99.high_ms is None else f"to {p99.high_ms:.4g}"
    said = f"p99 {p99.ms:.4g} ms (95%: {p99.low_ms:.4g} {end}) of {found.count:,} queries"
    if load >= 1:
        return Outcome.FAILS, f"the offered load is {load:.2f}: the queue grows without end; {said}"
    if p99.low_ms > bound_ms:
        return Outcome.FAILS, said
    if p99.high_ms is not None and p99.high_ms <= bound_ms:
        return Outcome.HOLDS, said
    return Outcome.UNDECIDED, f"the bound of {bound_ms:.4g} ms lies in the interval: {said}"
