"""Random labeled images as arrays, for the tests in this folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

SaveNpz = Callable[..., str]
"""Writes its keyword arguments as an archive and returns the name of the data set."""


def arrays(
    *, train: int = 50, test: int = 23, shape: tuple[int, ...] = (16, 16, 3), classes: int = 4
) -> dict[str, Any]:
    """Return random uint8 images and labels of every class, with the plain keys."""
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (train, *shape), dtype=np.uint8),
        "y_train": np.arange(train) % classes,
        "x_test": rng.integers(0, 256, (test, *shape), dtype=np.uint8),
        "y_test": np.arange(test) % classes,
    }
