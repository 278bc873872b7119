"""Percentiles with their intervals and counts; one that the count does not allow is not given."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from compress.bench.protocol import stats
from compress.core.spec import Record


class Percentile(Record):
    """A percentile, milliseconds, with its 95% interval; `high_ms` is None where the samples show no end."""

    ms: float
    low_ms: float
    high_ms: float | None


class Times(Record):
    """Times of single queries.

    Attributes:
        count: how many. mean_ms: their mean.
        p50, p90, p99: None with fewer than `compress.bench.protocol.stats.PERCENTILE_NEEDS`: 30 for p90, 1,000 for p99.
    """

    count: int
    mean_ms: float
    p50: Percentile | None
    p90: Percentile | None
    p99: Percentile | None


def times(measurements: NDArray[np.int64]) -> Times:
    """Return the summary of times `[measurements, repeats]`, nanoseconds.

    The times of one measurement, or of one stretch of queries, resemble each other: for the intervals it is
    the measurements that count as drawn, see `compress.bench.protocol.stats.percentile_interval`.
    """
    values = np.asarray(measurements, np.float64)
    p50, p90, p99 = (_percentile(values, q) for q in (50, 90, 99))
    return Times(count=values.size, mean_ms=float(values.mean()) / 1e6, p50=p50, p90=p90, p99=p99)


def _percentile(values: NDArray[np.float64], q: int) -> Percentile | None:
    found, ends = stats.percentile(values, q), stats.percentile_interval(values, q)
    if found is None or ends is None:
        return None
    high = ends[1] / 1e6 if math.isfinite(ends[1]) else None
    return Percentile(ms=found / 1e6, low_ms=ends[0] / 1e6, high_ms=high)
