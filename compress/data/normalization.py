"""A data set under another normalization than its own.

A model brings the mean and standard deviation it was trained with. On other images than those it was trained
on, it must be evaluated with its own values, not with those of the images.
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
    """Return `data` normalized with the mean and standard deviation of `preprocess`.

    Raises:
        CompressError: (exit 2) ``input-shape``: the images have another shape.
    """
    own = data.info.preprocess
    if own.input_size != preprocess.input_size:
        raise CompressError(
            f"the model takes images of {list(preprocess.input_size)}, the data {data.info.name!r} has "
            f"{list(own.input_size)}",
            hint="give the data that the model was trained on",
            code="input-shape",
        )
    if (own.mean, own.std) == (preprocess.mean, preprocess.std):
        return data
    return data.with_preprocess(preprocess) if isinstance(data, InMemory) else _Renormalized(data, preprocess)


def with_normalization(
    data: ImageData, mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None
) -> ImageData:
    """Return `data` normalized with another mean and standard deviation, such as those of pretrained weights.

    Args:
        data: the data set.
        mean: one value for each channel, for pixels from 0 to 1; None: the data set's own.
        std: as `mean`.

    Raises:
        CompressError: (exit 2) ``normalisation``: the number of values is not that of the channels, or a
            standard deviation is not positive.
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
            f"--std {','.join(map(str, std))}: a standard deviation must be greater than 0",
            hint="give values for pixels from 0 to 1, such as 0.229,0.224,0.225",
            code="normalisation",
        )
    return with_preprocess(data, own.model_copy(update={"mean": mean or own.mean, "std": std or own.std}))


@dataclass(frozen=True)
class _Converted:
    """Batches whose images are converted when they are read."""

    batches: Batches
    convert: Callable[[Tensor], Tensor]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return ((self.convert(images), labels) for images, labels in self.batches)


@dataclass(frozen=True)
class _Renormalized:
    """An `ImageData` whose normalization is replaced."""

    data: ImageData
    preprocess: Preprocess

    @property
    def info(self) -> DataInfo:
        """The data set's record with the new preprocessing."""
        return self.data.info.model_copy(update={"preprocess": self.preprocess})

    def deliver_to(self, device: torch.device) -> _Renormalized:
        """See `compress.data.base.deliver_to`."""
        return _Renormalized(deliver_to(self.data, device), self.preprocess)

    def _convert(self, images: Tensor) -> Tensor:
        def column(values: tuple[float, ...]) -> Tensor:
            return torch.tensor(values, dtype=images.dtype, device=images.device).view(-1, 1, 1)

        old, new = self.data.info.preprocess, self.preprocess
        pixels = images * column(old.std) + column(old.mean)
        return (pixels - column(new.mean)) / column(new.std)

    def train_batches(
        self, *, epoch: int, batch_size: int, seed: int, rank: int = 0, world: int = 1
    ) -> Batches:
        """See `ImageData.train_batches`."""
        own = self.data.train_batches(epoch=epoch, batch_size=batch_size, seed=seed, rank=rank, world=world)
        return _Converted(own, self._convert)

    def test_batches(self, *, batch_size: int, rank: int = 0, world: int = 1) -> Batches:
        """See `ImageData.test_batches`."""
        return _Converted(
            self.data.test_batches(batch_size=batch_size, rank=rank, world=world), self._convert
        )

    def test_arrays(self, limit: int | None = None, *, offset: int = 0) -> Batch:
        """See `ImageData.test_arrays`."""
        images, labels = self.data.test_arrays(limit, offset=offset)
        return self._convert(images), labels

    def train_samples(self, n: int, seed: int) -> Tensor:
        """See `ImageData.train_samples`."""
        return self._convert(self.data.train_samples(n, seed))
