"""Poisson arrivals and a server with one worker and a first-come-first-served queue.

The latency of a query counts from its scheduled arrival, even if the worker is busy then. A query that stalls
the worker therefore delays all queries that arrive during the stall. A load generator that sends the next
query only after the last answer would not measure that (coordinated omission).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.bench.scenarios.clock import Clock


def poisson_arrivals(qps: float, count: int, seed: int, part: int = 0) -> NDArray[np.int64]:
    """Return the arrival times of a Poisson process, nanoseconds from its start, `[count]`.

    The gaps are exponential. The same seed and part give the same gaps at every rate, scaled by the rate, so
    that two networks get the same arrival pattern.

    Args:
        qps: mean rate, queries per second.
        count: number of queries.
        seed: seed of the gaps.
        part: section of the same process; every part has other gaps.
    """
    gaps = np.random.default_rng([seed, part]).standard_exponential(count)
    return np.round(np.cumsum(gaps) * (1e9 / qps)).astype(np.int64)


@dataclass(frozen=True)
class ServedRound:
    """Result of serving one round of queries, nanoseconds from its start.

    Attributes:
        arrived, started, finished: times of each query, `[queries]`.
        batch_ns: duration of each inference, `[inferences]`.
        batches: number of queries of each inference, `[inferences]`.
    """

    arrived: NDArray[np.int64]
    started: NDArray[np.int64]
    finished: NDArray[np.int64]
    batch_ns: NDArray[np.int64]
    batches: NDArray[np.int64]

    @property
    def latency_ns(self) -> NDArray[np.int64]:
        """Time from the scheduled arrival to the answer, `[queries]`."""
        return self.finished - self.arrived

    @property
    def wait_ns(self) -> NDArray[np.int64]:
        """Time from the scheduled arrival to the start of the inference, `[queries]`."""
        return self.started - self.arrived

    @property
    def span_ns(self) -> int:
        """Time from the start to the last answer."""
        return int(self.finished[-1])

    @property
    def utilization(self) -> float:
        """Share of the time in which the worker was busy."""
        return float(self.batch_ns.sum()) / self.span_ns

    @property
    def mean_queue(self) -> float:
        """Mean number of waiting queries over time, excluding those in service."""
        return float(self.wait_ns.sum()) / self.span_ns

    @property
    def max_queue(self) -> int:
        """Largest number of waiting queries at the start of an inference."""
        waiting = np.searchsorted(self.arrived, self.started, side="right") - np.arange(len(self.arrived))
        return int(waiting.max())


def serve(
    arrivals: NDArray[np.int64], work: Callable[[int], object], clock: Clock, sizes: Sequence[int] = (1,)
) -> ServedRound:
    """Answer queries that arrive at given times, starting with an empty queue.

    An idle worker takes the oldest waiting queries, as many as the largest of `sizes` that they fill. It
    never waits for more queries.

    Args:
        arrivals: nanoseconds from now, ascending, `[queries]`.
        work: runs one inference for a number of queries, and returns when it is finished.
        clock: the clock.
        sizes: batch sizes of an inference, ascending from 1.
    """
    when = arrivals.tolist()
    count = len(when)
    started, finished = np.empty(count, np.int64), np.empty(count, np.int64)
    lengths, batches = list[int](), list[int]()
    begin, first = clock.now(), 0
    while first < count:
        clock.wait_until(begin + when[first])
        start = clock.now() - begin
        waiting = bisect_right(when, start, lo=first) - first
        size = sizes[bisect_right(sizes, waiting) - 1]
        work(size)
        end = clock.now() - begin
        started[first : first + size], finished[first : first + size] = start, end
        lengths.append(end - start)
        batches.append(size)
        first += size
    return ServedRound(arrivals, started, finished, np.array(lengths, np.int64), np.array(batches, np.int64))


def sizes_up_to(largest: int) -> tuple[int, ...]:
    """Return 1, 2, 4, ... and `largest` itself."""
    return tuple(sorted({2**i for i in range(int(math.log2(largest)) + 1)} | {largest}))
