"""Decide whether a rate of queries meets a bound on the p99, from the interval of one or more rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum

import numpy as np

from compress.bench.scenarios.latency_summary import LatencySummary, summarize_latencies
from compress.bench.scenarios.serving import ServedRound
from compress.core.spec import Record

BLOCKS = 10
"""Sections of a round that count as samples for the interval; latencies within one are correlated."""

MAX_ROUNDS = 4
"""Most rounds of one rate."""

MIN_ROUND_S = 1.0
"""Shortest round in seconds; a fast network gets more queries."""

MIN_FULL_BATCHES = 5
"""Fewest inferences of the largest batch from which its time is measured for the offered load."""


class Outcome(StrEnum):
    """Whether a rate meets the bound."""

    HOLDS = "HOLDS"
    FAILS = "FAILS"
    UNDECIDED = "UNDECIDED"


class RateRecord(Record):
    """Measurement of one network at one rate.

    Attributes:
        qps: rate of arrivals, queries per second.
        answered_qps: number of queries over the time until the last answer.
        rounds: number of rounds; each starts with an empty queue.
        times: latencies from the scheduled arrival to the answer.
        service_ms: mean time of an inference.
        mean_batch: mean number of queries of an inference.
        load: offered load: rate times the service time per query with full batches. At 1 or more, the queue
            grows without limit.
        utilisation: share of the time in which the worker was busy.
        mean_queue: mean number of waiting queries over time.
        max_queue: largest number of waiting queries.
        outcome, reason: whether the p99 meets the bound, and why.
    """

    qps: float
    answered_qps: float
    rounds: int
    times: LatencySummary
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
        """Queries per second at an offered load of 1, at the machine's speed during this measurement."""
        return self.qps / self.load


def queries_per_round(qps: float, minimum: int, capacity: float) -> int:
    """Return the queries of a round: at least `minimum`, at least `MIN_ROUND_S` long, in whole blocks."""
    return math.ceil(max(minimum, min(qps, capacity) * MIN_ROUND_S) / BLOCKS) * BLOCKS


def evaluate_rate(
    qps: float,
    rounds: Sequence[ServedRound],
    bound_ms: float,
    *,
    largest: int = 1,
    full_ns: float | None = None,
) -> RateRecord:
    """Evaluate the rounds of a rate, which have the same number of queries (a multiple of `BLOCKS`).

    A rate meets the bound if the 95% interval of the p99 ends at or below it. It exceeds the bound if the
    interval starts above it, or if the offered load is 1 or more: then the queue grows without limit, and the
    measured p99 depends only on the length of the measurement.

    Args:
        qps: rate, queries per second.
        rounds: the served rounds.
        bound_ms: bound on the p99.
        largest: largest batch size of an inference.
        full_ns: time of an inference of that size, used if too few were measured.
    """
    latencies = np.concatenate([round.latency_ns.reshape(BLOCKS, -1) for round in rounds])
    batches = np.concatenate([round.batches for round in rounds])
    lengths = np.concatenate([round.batch_ns for round in rounds])
    full = lengths[batches == largest]
    service_ns = float(full.mean()) if len(full) >= MIN_FULL_BATCHES or full_ns is None else full_ns
    span = sum(round.span_ns for round in rounds)
    load, summary = qps * service_ns / largest / 1e9, summarize_latencies(latencies)
    outcome, reason = _outcome(summary, bound_ms, load)
    return RateRecord(
        qps=qps,
        answered_qps=1e9 * latencies.size / span,
        rounds=len(rounds),
        times=summary,
        service_ms=float(lengths.mean()) / 1e6,
        mean_batch=float(batches.mean()),
        load=load,
        utilisation=float(lengths.sum()) / span,  # the field's name in the file
        mean_queue=sum(float(round.wait_ns.sum()) for round in rounds) / span,
        max_queue=max(round.max_queue for round in rounds),
        outcome=outcome,
        reason=reason,
    )


def _outcome(summary: LatencySummary, bound_ms: float, load: float) -> tuple[Outcome, str]:
    p99 = summary.p99
    if p99 is None:
        return Outcome.UNDECIDED, f"{summary.count:,} queries are too few for a p99"
    end = "unbounded" if p99.high_ms is None else f"{p99.high_ms:.4g}"
    text = f"p99 {p99.ms:.4g} ms (95%: {p99.low_ms:.4g} to {end}) from {summary.count:,} queries"
    if load >= 1:
        return Outcome.FAILS, f"the offered load is {load:.2f}, so the queue grows without limit; {text}"
    if p99.low_ms > bound_ms:
        return Outcome.FAILS, text
    if p99.high_ms is not None and p99.high_ms <= bound_ms:
        return Outcome.HOLDS, text
    return Outcome.UNDECIDED, f"the bound of {bound_ms:.4g} ms is inside the interval: {text}"
