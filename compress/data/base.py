"""The interface of every data set: what training, evaluation and calibration use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, cast

import torch
from torch import Tensor

from compress.core.errors import CompressError
from compress.core.spec import DataInfo

Batch = tuple[Tensor, Tensor]
"""Normalized images float32 `[B, C, H, W]` and labels int64 `[B]`."""


class Batches(Protocol):
    """A sized iterable of batches; a second iteration yields the same batches."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


class ImageData(Protocol):
    """A training set and a test set of labeled images."""

    @property
    def info(self) -> DataInfo:
        """Names, sizes, preprocessing and fingerprint."""
        ...

    def train_batches(
        self, *, epoch: int, batch_size: int, seed: int, rank: int = 0, world: int = 1
    ) -> Batches:
        """Return one augmented epoch for one of `world` processes.

        The order depends on (seed, epoch) only; crops and flips also on the position in it. `batch_size` is
        that of one process. Every process gets the same number of full batches, and the remaining images are
        dropped; if there are too few images for one full batch, each process gets one smaller batch.

        Raises:
            CompressError: there are fewer images than processes.
        """
        ...

    def test_batches(self, *, batch_size: int, rank: int = 0, world: int = 1) -> Batches:
        """Return the test images of one of `world` processes, in order.

        Process r gets the r-th of `world` contiguous parts, so that together they see each image once; their
        numbers of batches may differ by one.
        """
        ...

    def test_arrays(self, limit: int | None = None, *, offset: int = 0) -> Batch:
        """Return `limit` (None: all) preprocessed test images, starting at `offset`, and their labels."""
        ...

    def train_samples(self, n: int, seed: int) -> Tensor:
        """Return `n` (at most all) preprocessed training images `[n, C, H, W]`, not augmented.

        They are drawn without replacement, determined by `seed`.
        """
        ...


def deliver_to(data: ImageData, device: torch.device) -> ImageData:
    """Return `data` with its batches on `device`, if it can copy them itself; else `data` unchanged.

    Data that is decoded by worker processes is copied as bytes and converted to floats on the device.
    """
    move = getattr(data, "deliver_to", None)
    return data if move is None else cast(ImageData, move(device))


class LazyBatches:
    """`count` batches, each computed from its index when it is reached."""

    def __init__(self, count: int, make: Callable[[int], Batch]) -> None:
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Batch]:
        return map(self._make, range(self._count))


def check_class_count(
    num_classes: int | None, data: DataInfo, *, model: str = "the model", hint: str | None = None
) -> int:
    """Return the number of classes of the data, which a model must have too.

    Args:
        num_classes: classes of the model; None: not known, or not requested.
        data: the data set.
        model: what the model is called in the message.
        hint: how to fix it; None: that of a model which is built for the data.

    Raises:
        CompressError: (exit 2) ``class-count``: the two differ.
    """
    if num_classes not in (None, data.num_classes):
        raise CompressError(
            f"{model} has {num_classes} classes, {data.name!r} has {data.num_classes} classes",
            hint=hint or f"leave out --num-classes, or give {data.num_classes}",
            code="class-count",
            details={"model": num_classes, "data": data.num_classes},
        )
    return data.num_classes
