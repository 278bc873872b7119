"""Mean and percentiles of latencies; a percentile needs a minimum number of samples."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from compress.bench.protocol import stats
from compress.core.spec import Record


class Percentile(Record):
    """A percentile in milliseconds with its 95% interval.

    Attributes:
        high_ms: upper end; None if the samples do not bound it.
    """

    ms: float
    low_ms: float
    high_ms: float | None


class LatencySummary(Record):
    """Latencies of single queries.

    Attributes:
        count: number of queries.
        mean_ms: mean latency.
        p50, p90, p99: percentiles; None with fewer samples than
            `compress.bench.protocol.stats.PERCENTILE_NEEDS` (30 for the p90, 1,000 for the p99).
    """

    count: int
    mean_ms: float
    p50: Percentile | None
    p90: Percentile | None
    p99: Percentile | None


def summarize_latencies(measurements: NDArray[np.int64]) -> LatencySummary:
    """Return the summary of times `[measurements, repeats]` in nanoseconds.

    Times of the same measurement, or of queries close in time, are correlated. The intervals therefore treat
    a measurement as one sample, see `compress.bench.protocol.stats.percentile_interval`.
    """
    values = np.asarray(measurements, np.float64)
    p50, p90, p99 = (_percentile(values, q) for q in (50, 90, 99))
    return LatencySummary(count=values.size, mean_ms=float(values.mean()) / 1e6, p50=p50, p90=p90, p99=p99)


def _percentile(values: NDArray[np.float64], q: int) -> Percentile | None:
    value, interval = stats.percentile(values, q), stats.percentile_interval(values, q)
    if value is None or interval is None:
        return None
    high = interval[1] / 1e6 if math.isfinite(interval[1]) else None
    return Percentile(ms=value / 1e6, low_ms=interval[0] / 1e6, high_ms=high)
