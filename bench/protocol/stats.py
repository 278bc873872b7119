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
"""Two sides whose interval lies within this log-ratio (2%) are the same; a smaller effect is no verdict."""

RANKED_FROM = 6
"""Fewest sessions whose smallest and largest median hold the median of all 95% of the time."""

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
    """A median log-ratio with its interval.

    Attributes:
        median: of the log-ratios of the pairs; with several sessions, of their medians.
        low, high: ends of the interval.
        pairs, sessions: how many pairs, of how many sessions, it rests on.
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
    from scipy.stats import bootstrap  # imported here: takes most of a second

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


def over_sessions(
    sessions: Sequence[ArrayLike], *, seed: int = 0, confidence: float = CONFIDENCE
) -> Interval:
    """Return the median of the sessions' median log-ratios, with an interval that knows how sessions differ.

    Where a process's threads and memory come to lie shifts all of its pairs alike, so it is the sessions that
    count as drawn. From `RANKED_FROM` on the interval has the session medians of two ranks as its ends, the
    smallest and the largest of six to eight, the second of nine to eleven: it covers the median of all
    sessions as often as it says whatever their distribution (the binomial of the sign test; W. R. Thompson,
    "On confidence ranges for the median", Annals of Mathematical Statistics 7, 1936). Two to five are too few
    for that and get Student's t-interval, which takes session medians to be normal. One alone has only its
    pairs: see `interval`.

    Args:
        sessions: log-ratios `[pairs]` of each session.
        seed: of the resampling that one session alone needs.
        confidence: of the interval, between 0 and 1.
    """
    from scipy.stats import quantile_test
    from scipy.stats import t as student

    if len(sessions) < 2:
        return interval(sessions[0], seed=seed, confidence=confidence)
    parts = [np.asarray(part, np.float64) for part in sessions]
    medians = np.sort([float(np.median(part)) for part in parts])
    count = len(medians)
    ranked = quantile_test(medians, q=0, p=0.5).confidence_interval(confidence)
    low, high = float(ranked.low), float(ranked.high)
    if math.isnan(low) or math.isnan(high):  # too few sessions
        error = float(np.std(medians, ddof=1)) / math.sqrt(count)
        reach = float(student.ppf((1 + confidence) / 2, count - 1)) * error
        low, high = float(medians.mean()) - reach, float(medians.mean()) + reach
    return Interval(float(np.median(medians)), low, high, sum(part.size for part in parts), count)


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


def latency(samples_ns: ArrayLike, *, clusters: Sequence[Sequence[NDArray[Any]]] = ()) -> Latency:
    """Summarise times of single inferences `[count]`, in nanoseconds; no sample is thrown away.

    With `clusters`, the same samples by measurement and perhaps by session too, the percentiles get
    intervals: of each clustering one, and the wider counts.
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
        p50_ends=_widest([percentile_interval(parts, 50) for parts in clusters]),
        p99_ends=_widest([percentile_interval(parts, 99) for parts in clusters]),
    )


def _widest(ends: Sequence[tuple[float, float] | None]) -> tuple[float, float] | None:
    known = [pair for pair in ends if pair is not None]
    return (min(low for low, _ in known), max(high for _, high in known)) if known else None


def percentile(samples: NDArray[np.float64], q: int) -> float | None:
    """Return a percentile of `PERCENTILE_NEEDS`, or None where the samples are too few for it."""
    return float(np.percentile(samples, q)) if samples.size >= PERCENTILE_NEEDS[q] else None


def percentile_interval(
    clusters: Sequence[NDArray[Any]] | NDArray[Any], q: int, *, confidence: float = CONFIDENCE
) -> tuple[float, float] | None:
    """Return the ends of an interval of a percentile of times that lie in clusters, `[times]` each.

    Times of one measurement, or of one session, resemble each other, so it is these that count as drawn, not
    the times: the share of times up to the percentile gets the standard error of a sample of clusters, and
    the percentiles at the ends of that share's interval are the ends here (Woodruff, "Confidence intervals
    for medians and other position measures", JASA 47, 1952). An end that would need a time beyond the largest
    (or smallest) one seen is infinite (or 0).

    Returns:
        None with too few times for the percentile (`PERCENTILE_NEEDS`) or fewer than two clusters.
    """
    from scipy.stats import t as student

    count, times = len(clusters), np.concatenate([np.asarray(part, np.float64) for part in clusters])
    if count < 2 or times.size < PERCENTILE_NEEDS[q]:
        return None
    share, value = q / 100, np.percentile(times, q)
    up_to = np.array([(np.asarray(part) <= value).sum() - share * len(part) for part in clusters])
    error = math.sqrt(count / (count - 1) * float(np.square(up_to - up_to.mean()).sum())) / times.size
    # never narrower than independent times would give, or equal clusters would claim certainty
    error = max(error, math.sqrt(share * (1 - share) / times.size))
    reach = float(student.ppf((1 + confidence) / 2, count - 1)) * error
    low, high = share - reach, share + reach
    return (
        float(np.quantile(times, low)) if low > 0 else 0.0,
        float(np.quantile(times, high)) if high < 1 else math.inf,
    )
