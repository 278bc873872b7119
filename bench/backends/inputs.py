"""Helpers of all runners: the input of a measurement, timing by the host's clock, and batching of images."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.bench.backends.base import RunConfig
from compress.core.errors import CompressError


def noise(config: RunConfig, shape: Sequence[int]) -> NDArray[np.float32]:
    """Return the input of a measurement: normal noise, float32 `[batch, *shape]`, equal for all runners."""
    return np.random.default_rng(config.seed).standard_normal((config.batch, *shape), dtype=np.float32)


def fixed_size(path: Path, shape: Sequence[int | str]) -> tuple[int, int, int]:
    """Return `(channels, height, width)` of a file's images.

    Raises:
        CompressError: one of them is dynamic.
    """
    sizes = [size for size in shape if isinstance(size, int)]
    if len(sizes) != 3:
        raise CompressError(
            f"{str(path)!r} has a dynamic image size: {list(shape)}",
            hint="export it with a fixed image size",
            code="free-size",
        )
    return sizes[0], sizes[1], sizes[2]


def check_batch(path: Path, fixed: int | None, batch: int) -> None:
    """Check that a file whose batch size is fixed can run batches of `batch`.

    Raises:
        CompressError: ``fixed-batch`` (exit USAGE).
    """
    if fixed not in (None, batch):
        raise CompressError(
            f"{str(path)!r} has a fixed batch size of {fixed}; it cannot be measured with {batch}",
            hint=f"measure it with --batch {fixed}, or export it with --batch dynamic",
            code="fixed-batch",
        )


def host_times(call: Callable[[], Any], count: int) -> NDArray[np.int64]:
    """Call `count` times; return the nanoseconds of each by the host's clock, `[count]`."""
    clock = time.perf_counter_ns
    times = np.empty(count, dtype=np.int64)
    for i in range(count):
        start = clock()
        call()
        times[i] = clock() - start
    return times


def in_batches(
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]], images: NDArray[np.float32], batch: int
) -> NDArray[np.float32]:
    """Return the outputs of `run` for images `[N, C, H, W]`; the last batch is padded with zeros."""
    parts = []
    for first in range(0, len(images), batch):
        part = images[first : first + batch]
        full = np.zeros((batch, *images.shape[1:]), dtype=np.float32)
        full[: len(part)] = part
        parts.append(run(full)[: len(part)])
    return np.concatenate(parts)
