"""A time that other processes cannot spoil: what an operator takes when nothing interrupts it.

An interruption only ever adds. On a busy machine most inferences are interrupted somewhere and so is their
median; an operator of a millisecond is often not. The mean of its times between two low percentiles is steady
there, finer than the whole microseconds in which some runtimes count, and not the mere luck of a minimum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FROM, TO = 0.05, 0.25
"""Shares of the sorted times between which the mean is taken."""

RESAMPLES = 200


def low(times: NDArray[np.float64]) -> float:
    """Return the mean of the times `[samples]` between the low percentiles."""
    return float(_low(times[None])[0])


def spread(times: NDArray[np.float64], seed: int = 0) -> float:
    """Return the half-width of the 95% bootstrap interval of `low`."""
    which = np.random.default_rng(seed).integers(0, len(times), (RESAMPLES, len(times)))
    return 1.96 * float(_low(times[which]).std())


def _low(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    count = rows.shape[1]
    first = int(FROM * count)
    last = max(first + 1, int(np.ceil(TO * count)))
    found: NDArray[np.float64] = np.sort(rows, axis=1)[:, first:last].mean(axis=1)
    return found
