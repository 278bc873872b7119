"""Statistics of paired times: log-ratios, bootstrap intervals, the verdict, percentiles with their counts.

Times enter in nanoseconds; ratios are natural logarithms of ``baseline / candidate``, so that a positive
one means the candidate is faster and the two directions are symmetric.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap
from scipy.stats import t as student

CONFIDENCE = 0.95
"""Confidence level of every interval."""

RESAMPLES = 4999
"""Bootstrap resamples of an interval."""

SAME_WITHIN = math.log(1.02)
"""Two sides whose interval lies within this log-ratio (2%) are the same; a smaller effect is no verdict."""

PERCENTILE_NEEDS = {50: 1, 90: 30, 99: 1000}
"""Fewest samples from which a percentile is given."""


class Verdict(StrEnum):
    """What a comparison says about the candidate."""

    FASTER = "FASTER"
    SAME = "SAME"
    SLOWER = "SLOWER"
    UNCLEAR = "UNCLEAR"


@dataclass(frozen=True)
class Interval:
    """A median log-ratio with its bootstrap interval.

    Attributes:
        median: of the log-ratios of the pairs.
        low, high: ends of the interval.
        pairs: how many pairs it rests on.
    """

    median: float
    low: float
    high: float
    pairs: int

    @property
    def half_width(self) -> float:
        """Half the length of the interval."""
        return (self.high - self.low) / 2

    @property
    def reach(self) -> float:
        """Largest distance of the interval from zero.

        Of an A/A comparison this is the noise floor: its half-width, and a bias between two sessions of the
        same file on top of it.
        """
        return max(abs(self.low), abs(self.high))


@dataclass(frozen=True)
class Latency:
    """Summary of the times of single inferences, in nanoseconds.

    Attributes:
        count: number of samples.
        p50, p90, p99: percentiles; None with fewer samples than `PERCENTILE_NEEDS`.
        mad: median absolute deviation from the median.
        mean: arithmetic mean.
        p50_ends, p99_ends: ends of their 95% intervals, see `percentile_interval`; None where that is.
    """

    count: int
    p50: float | None
    p90: float | None
    p99: float | None
    mad: float
    mean: float
    p50_ends: tuple[float, float] | None = None
    p99_ends: tuple[float, float] | None = None


def log_ratios(baseline_ns: ArrayLike, candidate_ns: ArrayLike) -> NDArray[np.float64]:
    """Return ``log(baseline / candidate)`` for each pair of times, `[pairs]`.

    Raises:
        ValueError: the two have other lengths, none at all, or a time that is not positive.
    """
    baseline, candidate = np.asarray(baseline_ns, np.float64), np.asarray(candidate_ns, np.float64)
    if baseline.shape != candidate.shape or baseline.ndim != 1 or baseline.size == 0:
        raise ValueError(f"pairs of times are needed, not {baseline.shape} against {candidate.shape}")
    if not ((baseline > 0).all() and (candidate > 0).all()):
        raise ValueError("every time must be positive")
    ratios: NDArray[np.float64] = np.log(baseline) - np.log(candidate)
    return ratios


def interval(ratios: ArrayLike, *, seed: int = 0, confidence: float = CONFIDENCE) -> Interval:
    """Return the median of log-ratios with a percentile bootstrap interval over the pairs.

    Args:
        ratios: log-ratios `[pairs]`, at least two.
        seed: of the resampling; the same seed and ratios give the same interval.
        confidence: of the interval, between 0 and 1.
    """
    values = np.asarray(ratios, np.float64)
    if values.ndim != 1 or values.size < 2:
        raise ValueError(f"an interval needs at least two pairs, not {values.size}")
    found = bootstrap(
        (values,),
        np.median,
        confidence_level=confidence,
        n_resamples=RESAMPLES,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(np.median(values)), float(found.low), float(found.high), int(values.size))


def verdict(ratio: Interval, floor: float, *, same_within: float = SAME_WITHIN) -> Verdict:
    """Judge a comparison against the noise floor of its A/A pair.

    FASTER or SLOWER: the whole interval lies beyond the larger of `floor` and `same_within`. SAME: the whole
    interval, and the floor, lie within `same_within`. Everything else is UNCLEAR: an effect inside the noise
    is not called one, and noise is not called sameness.

    Args:
        ratio: of the baseline to the candidate.
        floor: log-ratio up to which the machine differs from itself, see `Interval.reach`.
        same_within: log-ratio up to which two sides count as the same.
    """
    beyond = max(floor, same_within)
    if ratio.low > beyond:
        return Verdict.FASTER
    if ratio.high < -beyond:
        return Verdict.SLOWER
    if ratio.reach <= same_within and floor <= same_within:
        return Verdict.SAME
    return Verdict.UNCLEAR


def latency(samples_ns: ArrayLike, *, repeats: int | None = None) -> Latency:
    """Summarise times of single inferences `[count]`, in nanoseconds; no sample is thrown away.

    With `repeats`, how many consecutive ones make a measurement, the percentiles get intervals.
    """
    samples = np.asarray(samples_ns, np.float64)
    if samples.ndim != 1 or samples.size == 0:
        raise ValueError("a summary needs at least one time")
    return Latency(
        count=int(samples.size),
        p50=percentile(samples, 50),
        p90=percentile(samples, 90),
        p99=percentile(samples, 99),
        mad=float(np.median(np.abs(samples - np.median(samples)))),
        mean=float(samples.mean()),
        p50_ends=None if repeats is None else percentile_interval(samples.reshape(-1, repeats), 50),
        p99_ends=None if repeats is None else percentile_interval(samples.reshape(-1, repeats), 99),
    )


def percentile(samples: NDArray[np.float64], q: int) -> float | None:
    """Return a percentile of `PERCENTILE_NEEDS`, or None where the samples are too few for it."""
    return float(np.percentile(samples, q)) if samples.size >= PERCENTILE_NEEDS[q] else None


def percentile_interval(
    measurements: NDArray[np.float64], q: int, *, confidence: float = CONFIDENCE
) -> tuple[float, float] | None:
    """Return the ends of an interval of a percentile of times `[measurements, repeats]`.

    Times of one measurement resemble each other, so it is the measurements that count as drawn, not the
    times: the share of times up to the percentile gets the standard error of a sample of clusters, and the
    percentiles at the ends of that share's interval are the ends here (Woodruff, "Confidence intervals for
    medians and other position measures", JASA 47, 1952). An end that would need a time beyond the largest
    (or smallest) one seen is infinite (or 0).

    Returns:
        None with too few times for the percentile (`PERCENTILE_NEEDS`) or fewer than two measurements.
    """
    count, size = len(measurements), measurements.size
    if count < 2 or size < PERCENTILE_NEEDS[q]:
        return None
    share = q / 100
    up_to = (measurements <= np.percentile(measurements, q)).sum(axis=1) - share * measurements.shape[1]
    error = math.sqrt(count / (count - 1) * float(np.square(up_to - up_to.mean()).sum())) / size
    # never narrower than independent times would give, or equal clusters would claim certainty
    error = max(error, math.sqrt(share * (1 - share) / size))
    reach = float(student.ppf((1 + confidence) / 2, count - 1)) * error
    low, high = share - reach, share + reach
    return (
        float(np.quantile(measurements, low)) if low > 0 else 0.0,
        float(np.quantile(measurements, high)) if high < 1 else math.inf,
    )
