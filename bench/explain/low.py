"""A time that other processes cannot spoil: what an operator takes when nothing interrupts it.

An interruption only ever adds. On a busy machine most inferences are interrupted somewhere and so is their
median; an operator of a millisecond is sometimes not. The mean of its lowest times is right there too, is
finer than the whole microseconds in which some runtimes count, and is not the mere luck of one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHARE, FEWEST = 0.05, 3
"""Of the sorted times the mean is taken of this share, and of at least so many."""

RESAMPLES = 200


def low(times: NDArray[np.float64]) -> float:
    """Return the mean of the lowest times `[samples]`."""
    return float(_low(times[None])[0])


def spread(times: NDArray[np.float64], seed: int = 0) -> float:
    """Return the half-width of the 95% bootstrap interval of `low`."""
    which = np.random.default_rng(seed).integers(0, len(times), (RESAMPLES, len(times)))
    return 1.96 * float(_low(times[which]).std())


def _low(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    count = max(FEWEST, round(SHARE * rows.shape[1]))
    found: NDArray[np.float64] = np.sort(rows, axis=1)[:, :count].mean(axis=1)
    return found
