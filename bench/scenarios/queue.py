"""One worker and a queue, first come first served: what queries wait and how long they take.

The latency of a query counts from its scheduled arrival, whatever the worker is busy with then. So a query
that stalls the worker makes all of those late that arrive meanwhile; a load generator that sends the next
query only when the last is answered would not see them (coordinated omission).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.bench.scenarios.clock import Clock


@dataclass(frozen=True)
class Served:
    """What became of the queries of one round, nanoseconds from its beginning.

    Attributes:
        arrived, started, finished: of each query, `[queries]`.
        batch_ns: how long each inference took, `[inferences]`. batches: queries of each.
    """

    arrived: NDArray[np.int64]
    started: NDArray[np.int64]
    finished: NDArray[np.int64]
    batch_ns: NDArray[np.int64]
    batches: NDArray[np.int64]

    @property
    def latency_ns(self) -> NDArray[np.int64]:
        """From the scheduled arrival to the answer, `[queries]`."""
        return self.finished - self.arrived

    @property
    def wait_ns(self) -> NDArray[np.int64]:
        """From the scheduled arrival until the inference begins, `[queries]`."""
        return self.started - self.arrived

    @property
    def span_ns(self) -> int:
        """From the beginning to the last answer."""
        return int(self.finished[-1])

    @property
    def utilisation(self) -> float:
        """Share of the time in which the worker was busy."""
        return float(self.batch_ns.sum()) / self.span_ns

    @property
    def mean_queue(self) -> float:
        """Queries waiting, the mean over the time; those in service are not counted."""
        return float(self.wait_ns.sum()) / self.span_ns

    @property
    def max_queue(self) -> int:
        """Most queries that were waiting at once, when an inference was about to begin."""
        waiting = np.searchsorted(self.arrived, self.started, side="right") - np.arange(len(self.arrived))
        return int(waiting.max())


def serve(
    arrivals: NDArray[np.int64], work: Callable[[int], object], clock: Clock, sizes: Sequence[int] = (1,)
) -> Served:
    """Answer queries that arrive at `arrivals`; begins with an empty queue.

    A free worker takes as many of the waiting queries as the largest of `sizes` that they fill, the oldest
    first; it never waits for more of them.

    Args:
        arrivals: nanoseconds from now, ascending, `[queries]`.
        work: does one inference for so many queries, and returns when it is answered.
        clock: the time.
        sizes: of an inference, ascending from 1.
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
    return Served(arrivals, started, finished, np.array(lengths, np.int64), np.array(batches, np.int64))


def sizes_up_to(largest: int) -> tuple[int, ...]:
    """Return 1, 2, 4, ... and `largest` itself."""
    return tuple(sorted({2**i for i in range(int(math.log2(largest)) + 1)} | {largest}))
