"""What every runner does alike: the input it is fed, the host's clock around a call, batches of images."""

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
    """Return the input of a measurement: normal noise, float32 `[batch, *shape]`, alike for every runner."""
    return np.random.default_rng(config.seed).standard_normal((config.batch, *shape), dtype=np.float32)


def fixed_size(path: Path, shape: Sequence[int | str]) -> tuple[int, int, int]:
    """Return `(channels, height, width)` of a file's images.

    Raises:
        CompressError: the file leaves one of them free.
    """
    sizes = [size for size in shape if isinstance(size, int)]
    if len(sizes) != 3:
        raise CompressError(
            f"{str(path)!r} leaves its image size free: {list(shape)}",
            hint="export it with a fixed image size",
            code="free-size",
        )
    return sizes[0], sizes[1], sizes[2]


def check_batch(path: Path, fixed: int | None, asked: int) -> None:
    """Refuse a batch size other than the one a file has fixed."""
    if fixed not in (None, asked):
        raise CompressError(
            f"{str(path)!r} has a fixed batch size of {fixed}; it cannot be measured with {asked}",
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
    """Return `run` over full batches of images `[N, C, H, W]`; the last one is filled with zeros and cut."""
    parts = []
    for first in range(0, len(images), batch):
        some = images[first : first + batch]
        full = np.zeros((batch, *images.shape[1:]), dtype=np.float32)
        full[: len(some)] = some
        parts.append(run(full)[: len(some)])
    return np.concatenate(parts)
