"""Data sets that fit in memory: uint8 tensors, whole batches augmented at once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from compress.core.spec import DataInfo, Preprocess
from compress.data import order
from compress.data.augment import Augmentation
from compress.data.base import Batch, Batches, LazyBatches
from compress.data.pixels import Size, fit_channels, normalise, resize, send, statistics


@dataclass(frozen=True)
class Arrays:
    """Images uint8 `[N, C, H, W]` and labels int64 `[N]`, for training and for test."""

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor

    def fingerprint(self) -> str:
        """Return the SHA-256 over shapes and bytes."""
        sha = hashlib.sha256()
        for tensor in (self.x_train, self.y_train, self.x_test, self.y_test):
            sha.update(repr((tuple(tensor.shape), str(tensor.dtype))).encode())
            sha.update(tensor.contiguous().numpy().data.cast("B"))
        return sha.hexdigest()

    @property
    def nbytes(self) -> int:
        """Bytes of all four tensors."""
        return sum(t.nbytes for t in (self.x_train, self.y_train, self.x_test, self.y_test))

    def to(self, device: torch.device) -> Arrays:
        """The same tensors on `device`."""
        return Arrays(*(t.to(device) for t in (self.x_train, self.y_train, self.x_test, self.y_test)))


class InMemory:
    """An `ImageData` over `Arrays`, wherever these are: batches are made on their device, without a wait.

    Order, crops and flips are drawn on the host, an epoch at a time, and sent to the device once; they and
    the images are the same on every device.
    """

    def __init__(self, arrays: Arrays, info: DataInfo, augmentation: Augmentation) -> None:
        self._arrays = arrays
        self._info = info
        self._augmentation = augmentation

    @property
    def info(self) -> DataInfo:
        """Names, sizes, preprocessing and fingerprint."""
        return self._info

    @property
    def pixel_bytes(self) -> int:
        """Bytes that images and labels take."""
        return self._arrays.nbytes

    def on_device(self, device: torch.device) -> InMemory:
        """The same data with images and labels on `device`, where its batches are then made."""
        return InMemory(self._arrays.to(device), self._info, self._augmentation)

    def under(self, preprocess: Preprocess) -> InMemory:
        """The same images, normalised as `preprocess` says."""
        info = self._info.model_copy(update={"preprocess": preprocess})
        return InMemory(self._arrays, info, self._augmentation)

    def train_batches(
        self, *, epoch: int, batch_size: int, seed: int, rank: int = 0, world: int = 1
    ) -> Batches:
        """See `ImageData.train_batches`."""
        x, y = self._arrays.x_train, self._arrays.y_train
        chosen = order.train_batches(
            len(x), batch_size=batch_size, seed=seed, epoch=epoch, rank=rank, world=world
        )
        size = len(chosen[0])
        draws = self._augmentation.draw(
            size * len(chosen), order.generator("augment", seed, epoch, rank, world)
        ).to(x.device)
        places = send(torch.stack(chosen), x.device)

        def make(i: int) -> Batch:
            images = draws.apply(x[places[i]], slice(i * size, (i + 1) * size))
            return normalise(images, self._info.preprocess), y[places[i]]

        return LazyBatches(len(chosen), make)

    def test_batches(self, *, batch_size: int, rank: int = 0, world: int = 1) -> Batches:
        """See `ImageData.test_batches`."""
        x, y = self._arrays.x_test, self._arrays.y_test
        chosen = order.test_batches(len(x), batch_size=batch_size, rank=rank, world=world)

        def make(i: int) -> Batch:
            where = slice(int(chosen[i][0]), int(chosen[i][-1]) + 1)  # contiguous, and known on the host
            return normalise(x[where], self._info.preprocess), y[where]

        return LazyBatches(len(chosen), make)

    def test_arrays(self, limit: int | None = None, *, offset: int = 0) -> Batch:
        """See `ImageData.test_arrays`."""
        where = slice(offset, None if limit is None else offset + limit)
        images = normalise(self._arrays.x_test[where], self._info.preprocess)
        return images, self._arrays.y_test[where].clone()

    def train_samples(self, n: int, seed: int) -> Tensor:
        """See `ImageData.train_samples`."""
        chosen = send(order.draw(len(self._arrays.x_train), n, seed), self._arrays.x_train.device)
        return normalise(self._arrays.x_train[chosen], self._info.preprocess)


def in_memory(
    name: str,
    arrays: Arrays,
    classes: Sequence[str],
    *,
    augmentation: Augmentation,
    input_size: Size | None = None,
    moments: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
) -> InMemory:
    """Bring `arrays` to `input_size` (None: as they are) and make a data set of them.

    Args:
        name: the data set's name, for its record and for errors.
        arrays: the images as they came.
        classes: the names of the labels 0, 1, ...
        augmentation: what training does to an image.
        input_size: channels, height and width the network takes.
        moments: mean and deviation a channel; None: computed from the training images.

    Raises:
        CompressError: the images' channels cannot be brought to `input_size`.
    """
    fingerprint = arrays.fingerprint()
    size = input_size or (arrays.x_train.shape[1], arrays.x_train.shape[2], arrays.x_train.shape[3])
    x_train, side = resize(fit_channels(arrays.x_train, size[0], name), size[1:])
    x_test, _ = resize(fit_channels(arrays.x_test, size[0], name), size[1:])
    mean, std = moments or statistics(x_train)
    info = DataInfo(
        name=name,
        classes=tuple(classes),
        train_size=len(x_train),
        test_size=len(x_test),
        fingerprint=fingerprint,
        preprocess=Preprocess(
            input_size=size, mean=mean, std=std, resize=side, color="L" if size[0] == 1 else "RGB"
        ),
        augmentation=str(augmentation),
    )
    fitted = Arrays(x_train, arrays.y_train.to(torch.int64), x_test, arrays.y_test.to(torch.int64))
    return InMemory(fitted, info, augmentation)
