"""Data sets held in memory: uint8 tensors, whose batches are augmented as a whole."""

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
from compress.data.pixels import Size, fit_channels, normalize, resize, send, statistics


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
        """Return the same tensors on `device`."""
        return Arrays(*(t.to(device) for t in (self.x_train, self.y_train, self.x_test, self.y_test)))


class InMemory:
    """An `ImageData` over `Arrays` on any device: batches are computed there, without synchronization.

    Order, crops and flips are drawn on the host for a whole epoch and copied to the device once; they are the
    same on every device.
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
        """Size of images and labels in bytes."""
        return self._arrays.nbytes

    def on_device(self, device: torch.device) -> InMemory:
        """Return the same data with images and labels on `device`, where batches are then computed."""
        return InMemory(self._arrays.to(device), self._info, self._augmentation)

    def with_preprocess(self, preprocess: Preprocess) -> InMemory:
        """Return the same images, normalized as `preprocess` says."""
        info = self._info.model_copy(update={"preprocess": preprocess})
        return InMemory(self._arrays, info, self._augmentation)

    def train_batches(
        self, *, epoch: int, batch_size: int, seed: int, rank: int = 0, world: int = 1
    ) -> Batches:
        """See `ImageData.train_batches`."""
        x, y = self._arrays.x_train, self._arrays.y_train
        indices = order.train_batches(
            len(x), batch_size=batch_size, seed=seed, epoch=epoch, rank=rank, world=world
        )
        size = len(indices[0])
        random_values = self._augmentation.draw(
            size * len(indices), order.generator("augment", seed, epoch, rank, world)
        ).to(x.device)
        device_indices = send(torch.stack(indices), x.device)

        def make(i: int) -> Batch:
            images = random_values.apply(x[device_indices[i]], slice(i * size, (i + 1) * size))
            return normalize(images, self._info.preprocess), y[device_indices[i]]

        return LazyBatches(len(indices), make)

    def test_batches(self, *, batch_size: int, rank: int = 0, world: int = 1) -> Batches:
        """See `ImageData.test_batches`."""
        x, y = self._arrays.x_test, self._arrays.y_test
        indices = order.test_batches(len(x), batch_size=batch_size, rank=rank, world=world)

        def make(i: int) -> Batch:
            part = slice(int(indices[i][0]), int(indices[i][-1]) + 1)  # contiguous, and known on the host
            return normalize(x[part], self._info.preprocess), y[part]

        return LazyBatches(len(indices), make)

    def test_arrays(self, limit: int | None = None, *, offset: int = 0) -> Batch:
        """See `ImageData.test_arrays`."""
        part = slice(offset, None if limit is None else offset + limit)
        images = normalize(self._arrays.x_test[part], self._info.preprocess)
        return images, self._arrays.y_test[part].clone()

    def train_samples(self, n: int, seed: int) -> Tensor:
        """See `ImageData.train_samples`."""
        indices = send(order.draw(len(self._arrays.x_train), n, seed), self._arrays.x_train.device)
        return normalize(self._arrays.x_train[indices], self._info.preprocess)


def in_memory(
    name: str,
    arrays: Arrays,
    classes: Sequence[str],
    *,
    augmentation: Augmentation,
    input_size: Size | None = None,
    moments: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
) -> InMemory:
    """Return a data set of `arrays`, resized and cropped to `input_size`.

    Args:
        name: the data set's name, for its record and for error messages.
        arrays: the images in their own size.
        classes: the names of the labels 0, 1, ...
        augmentation: of the training images.
        input_size: channels, height and width that the network takes; None: those of the images.
        moments: mean and standard deviation of each channel; None: computed from the training images.

    Raises:
        CompressError: the images have another number of channels than `input_size`.
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
