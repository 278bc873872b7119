"""Lower-tail mean, robust to interruptions.

An interruption by another process only ever adds time, so on a busy machine even the median of an operator's
times is too high. The mean of the lowest 5% is not affected, has a finer resolution than the whole
microseconds in which some runtimes count, and depends less on chance than the minimum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TAIL_SHARE, MIN_SAMPLES = 0.05, 3
"""The mean is taken over this share of the sorted times, and over at least this many."""

RESAMPLES = 200
"""Bootstrap resamples of the interval."""


def robust_mean(times: NDArray[np.float64]) -> float:
    """Return the mean of the lowest times `[samples]`, in their unit."""
    return float(_lower_tail_means(times[None])[0])


def robust_mean_half_width(times: NDArray[np.float64], seed: int = 0) -> float:
    """Return the half-width of the 95% bootstrap interval of `robust_mean`."""
    indices = np.random.default_rng(seed).integers(0, len(times), (RESAMPLES, len(times)))
    return 1.96 * float(_lower_tail_means(times[indices]).std())


def _lower_tail_means(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    count = max(MIN_SAMPLES, round(TAIL_SHARE * rows.shape[1]))
    means: NDArray[np.float64] = np.sort(rows, axis=1)[:, :count].mean(axis=1)
    return means
