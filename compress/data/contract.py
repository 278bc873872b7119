"""Data as a model wants it: the pixels of one data set under the normalisation of another.

A model brings its own mean and standard deviation. Evaluated on other images than it was trained on, it must
see them under its own, not under those of the images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from compress.core.errors import CompressError
from compress.core.spec import DataInfo, Preprocess
from compress.data.base import Batch, Batches, ImageData, deliver_to
from compress.data.memory import InMemory


def with_preprocess(data: ImageData, preprocess: Preprocess) -> ImageData:
    """Return `data` normalised as `preprocess` says.

    Raises:
        CompressError: (exit 2) the images have another shape.
    """
    given = data.info.preprocess
    if given.input_size != preprocess.input_size:
        raise CompressError(
            f"the model takes images of {list(preprocess.input_size)}, the data {data.info.name!r} has "
            f"{list(given.input_size)}",
            hint="give the data it was trained on",
            code="input-shape",
        )
    same = (given.mean, given.std) == (preprocess.mean, preprocess.std)
    if same:
        return data
    return data.under(preprocess) if isinstance(data, InMemory) else _Renormalised(data, preprocess)


def with_normalization(
    data: ImageData, mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None
) -> ImageData:
    """Return `data` under another mean and deviation a channel (0 to 1 scale); None: as they are.

    Weights from elsewhere were trained under a normalisation of their own.

    Raises:
        CompressError: (exit 2) there is not one value a channel, or a deviation is not positive.
    """
    own = data.info.preprocess
    for word, values in (("mean", mean), ("std", std)):
        if values is not None and len(values) != own.input_size[0]:
            raise CompressError(
                f"--{word} has {len(values)} values, the images have {own.input_size[0]} channels",
                hint="give one value for each channel of the images, separated by commas",
                code="normalisation",
            )
    if std is not None and min(std) <= 0:
        raise CompressError(
            f"--std {','.join(map(str, std))}: a deviation of 0 or less is not possible",
            hint="values on the 0 to 1 scale, such as 0.229,0.224,0.225",
            code="normalisation",
        )
    return with_preprocess(data, own.model_copy(update={"mean": mean or own.mean, "std": std or own.std}))


@dataclass(frozen=True)
class _Converted:
    """Batches whose images are converted on the way."""

    batches: Batches
    convert: Callable[[Tensor], Tensor]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return ((self.convert(images), labels) for images, labels in self.batches)


@dataclass(frozen=True)
class _Renormalised:
    """A data set with another mean and standard deviation."""

    data: ImageData
    preprocess: Preprocess

    @property
    def info(self) -> DataInfo:
        """The data set's own record with the model's preprocessing."""
        return self.data.info.model_copy(update={"preprocess": self.preprocess})

    def deliver_to(self, device: torch.device) -> _Renormalised:
        """See `compress.data.base.deliver_to`."""
        return _Renormalised(deliver_to(self.data, device), self.preprocess)

    def _convert(self, images: Tensor) -> Tensor:
        def column(values: tuple[float, ...]) -> Tensor:
            return torch.tensor(values, dtype=images.dtype, device=images.device).view(-1, 1, 1)

        had, wanted = self.data.info.preprocess, self.preprocess
        pixels = images * column(had.std) + column(had.mean)
        return (pixels - column(wanted.mean)) / column(wanted.std)

    def train_batches(
        self, *, epoch: int, batch_size: int, seed: int, rank: int = 0, world: int = 1
    ) -> Batches:
        """As the data set's own."""
        own = self.data.train_batches(epoch=epoch, batch_size=batch_size, seed=seed, rank=rank, world=world)
        return _Converted(own, self._convert)

    def test_batches(self, *, batch_size: int, rank: int = 0, world: int = 1) -> Batches:
        """As the data set's own."""
        return _Converted(
            self.data.test_batches(batch_size=batch_size, rank=rank, world=world), self._convert
        )

    def test_arrays(self, limit: int | None = None, *, offset: int = 0) -> Batch:
        """As the data set's own."""
        images, labels = self.data.test_arrays(limit, offset=offset)
        return self._convert(images), labels

    def train_samples(self, n: int, seed: int) -> Tensor:
        """As the data set's own."""
        return self._convert(self.data.train_samples(n, seed))
