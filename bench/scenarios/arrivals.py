"""When queries arrive: a Poisson process, as of many users who know nothing of each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def poisson(qps: float, count: int, seed: int, part: int = 0) -> NDArray[np.int64]:
    """Return the arrivals of `count` queries at `qps` a second, nanoseconds from the beginning, `[count]`.

    Gaps are exponential. The same seed and part give the same gaps at every rate but for their length, so
    that two networks are asked in the same pattern.

    Args:
        qps: mean rate.
        count: of queries.
        seed, part: of the gaps; another part is another stretch of the same process.
    """
    gaps = np.random.default_rng([seed, part]).standard_exponential(count)
    return np.round(np.cumsum(gaps) * (1e9 / qps)).astype(np.int64)
