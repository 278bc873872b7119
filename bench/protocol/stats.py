"""Statistics of paired times: log-ratios, intervals over pairs and sessions, the verdict, percentiles.

Times enter in nanoseconds; ratios are natural logarithms of ``baseline / candidate``, so that a positive
one means the candidate is faster and the two directions are symmetric.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
"""Confidence level of every interval."""

RESAMPLES = 4999
"""Bootstrap resamples of an interval."""

SAME_WITHIN = math.log(1.02)
"""Log-ratio (2%) within which two sides count as the same; a smaller effect gets no FASTER or SLOWER."""

RANKED_FROM = 6
"""Fewest sessions for which the range of their medians covers the true median with probability 95%."""

PERCENTILE_NEEDS = {50: 1, 90: 30, 99: 1000}
"""Smallest number of samples for which each percentile is reported."""


class Verdict(StrEnum):
    """Verdict on a candidate compared with its baseline."""

    FASTER = "FASTER"
    SAME = "SAME"
    SLOWER = "SLOWER"
    UNCLEAR = "UNCLEAR"


@dataclass(frozen=True)
class Interval:
    """A median log-ratio with its confidence interval.

    Attributes:
        median: of the log-ratios of the pairs; with several sessions, of the medians of the sessions.
        low, high: ends of the interval.
        pairs, sessions: number of pairs and of sessions that it was computed from.
    """

    median: float
    low: float
    high: float
    pairs: int
    sessions: int = 1

    @property
    def half_width(self) -> float:
        """Half the length of the interval."""
        return (self.high - self.low) / 2

    @property
    def reach(self) -> float:
        """Largest distance of the interval from zero.

        For an A/A comparison this is the noise floor: it includes the half-width of the interval and any
        bias between the two runners of the same file.
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
        p50_ends, p99_ends: ends of their 95% intervals, see `percentile_interval`; None without them.
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
        ValueError: the two differ in length, are empty, or contain a time that is not positive.
    """
    baseline, candidate = np.asarray(baseline_ns, np.float64), np.asarray(candidate_ns, np.float64)
    if baseline.shape != candidate.shape or baseline.ndim != 1 or baseline.size == 0:
        raise ValueError(f"the shapes {baseline.shape} and {candidate.shape} are not pairs of times [pairs]")
    if not ((baseline > 0).all() and (candidate > 0).all()):
        raise ValueError("every time must be positive")
    ratios: NDArray[np.float64] = np.log(baseline) - np.log(candidate)
    return ratios


def interval(ratios: ArrayLike, *, seed: int = 0, confidence: float = CONFIDENCE) -> Interval:
    """Return the median of log-ratios with a percentile bootstrap interval over the pairs.

    Args:
        ratios: log-ratios `[pairs]`, at least two.
        seed: seed of the resampling; the same seed and ratios give the same interval.
        confidence: confidence level of the interval, between 0 and 1.
    """
    from scipy.stats import bootstrap  # imported here: takes most of a second

    values = np.asarray(ratios, np.float64)
    if values.ndim != 1 or values.size < 2:
        raise ValueError(f"an interval needs at least two pairs, not {values.size}")
    ends = bootstrap(
        (values,),
        np.median,
        confidence_level=confidence,
        n_resamples=RESAMPLES,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(np.median(values)), float(ends.low), float(ends.high), int(values.size))


def over_sessions(
    sessions: Sequence[ArrayLike], *, seed: int = 0, confidence: float = CONFIDENCE
) -> Interval:
    """Return the median of the sessions' median log-ratios, with an interval over the sessions.

    The memory layout and thread placement of a process shift all of its pairs alike, so the sessions are the
    independent samples, not the pairs. With `RANKED_FROM` or more sessions the ends of the interval are
    two order statistics of the session medians: the smallest and the largest of six to eight, the second
    smallest and second largest of nine to eleven. This covers the true median with the stated probability for
    any distribution (inversion of the sign test; W. R. Thompson, "On confidence ranges for the median",
    Annals of Mathematical Statistics 7, 1936). Two to five sessions are too few for that and get Student's
    t-interval, which assumes normal session medians. A single session uses its pairs: see `interval`.

    Args:
        sessions: log-ratios `[pairs]` of each session.
        seed: seed of the resampling, which is used for a single session only.
        confidence: confidence level of the interval, between 0 and 1.
    """
    if len(sessions) < 2:
        return interval(sessions[0], seed=seed, confidence=confidence)
    parts = [np.asarray(part, np.float64) for part in sessions]
    medians = np.sort([float(np.median(part)) for part in parts])
    count = len(medians)
    low, high = _rank_interval(medians, confidence)
    if math.isnan(low) or math.isnan(high):  # too few sessions
        error = float(np.std(medians, ddof=1)) / math.sqrt(count)
        reach = student_quantile((1 + confidence) / 2, count - 1) * error
        low, high = float(medians.mean()) - reach, float(medians.mean()) + reach
    return Interval(float(np.median(medians)), low, high, sum(part.size for part in parts), count)


def _rank_interval(medians: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """Return the ends of the interval of the sign test; not a number if the medians are too few for it."""
    if 2 * 0.5 ** len(medians) > 1 - confidence:  # too few for any two ranks
        return math.nan, math.nan
    from scipy.stats import quantile_test

    ranked: Any = quantile_test(medians, q=0, p=0.5)  # SciPy's stub types its interval as a float
    low, high = (float(end) for end in ranked.confidence_interval(confidence))
    return low, high


def student_quantile(share: float, freedom: int) -> float:
    """Return the quantile of Student's t distribution, without the slow import of `scipy.stats`.

    Args:
        share: probability, between 0 and 1.
        freedom: degrees of freedom.
    """
    from scipy.special import stdtrit

    return float(stdtrit(freedom, share))


def verdict(ratio: Interval, floor: float, *, same_within: float = SAME_WITHIN) -> Verdict:
    """Judge a comparison against the noise floor of its A/A pair.

    FASTER or SLOWER: the whole interval lies beyond the larger of `floor` and `same_within`. SAME: the whole
    interval and the floor lie within `same_within`. Everything else is UNCLEAR.

    Args:
        ratio: log-ratio of the baseline's time to the candidate's.
        floor: noise floor as a log-ratio: the `Interval.reach` of the A/A comparison.
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


def latency(samples_ns: ArrayLike, *, clusters: Sequence[Sequence[NDArray[Any]]] = ()) -> Latency:
    """Return the summary of the times of single inferences; no sample is discarded.

    Args:
        samples_ns: nanoseconds, `[count]`.
        clusters: groupings of the same samples, for example by measurement and by session. Each grouping
            gives an interval of every percentile, and the widest is used; without one there are none.

    Raises:
        ValueError: there are no samples.
    """
    samples = np.asarray(samples_ns, np.float64)
    if samples.ndim != 1 or samples.size == 0:
        raise ValueError("at least one time is needed for a summary")
    return Latency(
        count=int(samples.size),
        p50=percentile(samples, 50),
        p90=percentile(samples, 90),
        p99=percentile(samples, 99),
        mad=float(np.median(np.abs(samples - np.median(samples)))),
        mean=float(samples.mean()),
        p50_ends=_widest([percentile_interval(parts, 50) for parts in clusters]),
        p99_ends=_widest([percentile_interval(parts, 99) for parts in clusters]),
    )


def _widest(ends: Sequence[tuple[float, float] | None]) -> tuple[float, float] | None:
    known = [pair for pair in ends if pair is not None]
    return (min(low for low, _ in known), max(high for _, high in known)) if known else None


def percentile(samples: NDArray[np.float64], q: int) -> float | None:
    """Return the percentile `q` (50, 90 or 99), or None with fewer samples than `PERCENTILE_NEEDS`."""
    return float(np.percentile(samples, q)) if samples.size >= PERCENTILE_NEEDS[q] else None


def percentile_interval(
    clusters: Sequence[NDArray[Any]] | NDArray[Any], q: int, *, confidence: float = CONFIDENCE
) -> tuple[float, float] | None:
    """Return the ends of the confidence interval of a percentile of clustered times, `[times]` per cluster.

    Times of one measurement or session are correlated, so the clusters are the independent samples. The share
    of times up to the percentile has the standard error of a cluster sample; the ends of its interval are
    mapped back to percentiles (Woodruff, "Confidence intervals for medians and other position measures",
    JASA 47, 1952). An upper end beyond the largest time is infinite, a lower end below the smallest is 0.

    Returns:
        None with too few times for the percentile (`PERCENTILE_NEEDS`) or fewer than two clusters.
    """
    count, times = len(clusters), np.concatenate([np.asarray(part, np.float64) for part in clusters])
    if count < 2 or times.size < PERCENTILE_NEEDS[q]:
        return None
    share, value = q / 100, np.percentile(times, q)
    up_to = np.array([(np.asarray(part) <= value).sum() - share * len(part) for part in clusters])
    error = math.sqrt(count / (count - 1) * float(np.square(up_to - up_to.mean()).sum())) / times.size
    # at least the error of independent times: identical clusters would give an error of zero
    error = max(error, math.sqrt(share * (1 - share) / times.size))
    reach = student_quantile((1 + confidence) / 2, count - 1) * error
    low, high = share - reach, share + reach
    return (
        float(np.quantile(times, low)) if low > 0 else 0.0,
        float(np.quantile(times, high)) if high < 1 else math.inf,
    )
