"""What every data set offers to training, evaluation and calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, cast

import torch
from torch import Tensor

from compress.core.spec import DataInfo

Batch = tuple[Tensor, Tensor]
"""Images float32 `[B, C, H, W]`, normalised, and labels int64 `[B]`."""


class Batches(Protocol):
    """A sized iterable of batches; iterating it again gives the same batches."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


class ImageData(Protocol):
    """A training and a test set of labelled images."""

    @property
    def info(self) -> DataInfo:
        """Names, sizes, preprocessing and fingerprint."""
        ...

    def train_batches(
        self, *, epoch: int, batch_size: int, seed: int, rank: int = 0, world: int = 1
    ) -> Batches:
        """Return one augmented epoch for one of `world` processes.

        The order depends on (seed, epoch) alone; crops and flips on the place in it too. `batch_size` is a
        process's own. Every process gets the same number of full batches and what is left over is dropped;
        where there are too few images for one full batch, each gets one smaller batch.

        Raises:
            CompressError: there are fewer images than processes.
        """
        ...

    def test_batches(self, *, batch_size: int, rank: int = 0, world: int = 1) -> Batches:
        """Return the test images of one of `world` processes, in order.

        Process r has the r-th of `world` contiguous stretches, so that all of them together see each image
        once; their numbers of batches can differ by one.
        """
        ...

    def test_arrays(self, limit: int | None = None, *, offset: int = 0) -> Batch:
        """Return `limit` (None: all) preprocessed test images from `offset` on, and their labels."""
        ...

    def train_samples(self, n: int, seed: int) -> Tensor:
        """Return `n` (at most all) preprocessed, un-augmented training images `[n, C, H, W]`.

        They are drawn without repetition by `seed`.
        """
        ...


def deliver_to(data: ImageData, device: torch.device) -> ImageData:
    """Return `data` with its batches already on `device`, where the source can bring them there itself.

    A source that decodes sends bytes and makes floats of them on the device; others are returned as they are.
    """
    move = getattr(data, "deliver_to", None)
    return data if move is None else cast(ImageData, move(device))


class LazyBatches:
    """`count` batches, made when they are asked for; each a pure function of its number."""

    def __init__(self, count: int, make: Callable[[int], Batch]) -> None:
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Batch]:
        return map(self._make, range(self._count))
