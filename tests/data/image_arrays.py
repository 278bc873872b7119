"""Random labelled images as arrays, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

SaveNpz = Callable[..., str]
"""Writes its keyword arguments as an archive and returns the data-set name of it."""


def arrays(
    *, train: int = 50, test: int = 23, shape: tuple[int, ...] = (16, 16, 3), classes: int = 4
) -> dict[str, Any]:
    """Return random uint8 images and labels that hold every class, under the plain keys."""
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (train, *shape), dtype=np.uint8),
        "y_train": np.arange(train) % classes,
        "x_test": rng.integers(0, 256, (test, *shape), dtype=np.uint8),
        "y_test": np.arange(test) % classes,
    }
