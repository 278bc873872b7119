"""Data sets too large for memory: images decoded and augmented one at a time by worker processes.

Each image is augmented from a seed of its own, so neither the number of workers nor that of processes
changes what is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from compress.data import order
from compress.data.base import Batch, Batches
from compress.data.pixels import Size, normalise
from compress.errors import CompressError
from compress.spec import DataInfo, Preprocess

Transform = Callable[[Any], Tensor]
"""From a Pillow image to uint8 `[C, H, W]`; may draw from torch's global generator."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_CROP_SHARE = 0.875
_TEST_BATCH = 64


class Images(Protocol):
    """Labelled Pillow images by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """Return an image in mode RGB and its label.

        Raises:
            CompressError: the image cannot be decoded; the message names it.
        """
        ...


@dataclass(frozen=True)
class View:
    """How an image becomes a tensor, in training and in test, and the record of the latter."""

    train: Transform
    test: Transform
    preprocess: Preprocess
    augmentation: str


def imagenet_view(name: str, input_size: Size) -> View:
    """Return ImageNet's usual view: a random resized crop and flip; in test the centre of a larger image.

    Raises:
        CompressError: the input size does not have 3 channels.
    """
    from torchvision.transforms import v2

    channels, *size = input_size
    if channels != 3:
        raise CompressError(
            f"{name} is read in colour and the input size asks for {channels} channels",
            hint=f"give --input-size 3,{size[0]},{size[1]}",
            code="input-size",
        )
    side = round(max(size) / _CROP_SHARE)
    train = v2.Compose(
        [v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip(), v2.PILToTensor()]
    )
    test = v2.Compose([v2.Resize(side, antialias=True), v2.CenterCrop(size), v2.PILToTensor()])
    preprocess = Preprocess(
        input_size=input_size, mean=IMAGENET_MEAN, std=IMAGENET_STD, resize=side, resampling="pillow"
    )
    return View(train, test, preprocess, "random resized crop (8% to 100% of the area), horizontal flip")


class Decoded:
    """An `ImageData` over images that are decoded when they are needed."""

    def __init__(self, train: Images, test: Images, view: View, info: DataInfo, workers: int) -> None:
        self._train = train
        self._test = test
        self._view = view
        self._info = info
        self._workers = max(workers, 0)

    @property
    def info(self) -> DataInfo:
        """Names, sizes, preprocessing and fingerprint."""
        return self._info

    def train_batches(
        self, *, epoch: int, batch_size: int, seed: int, rank: int = 0, world: int = 1
    ) -> Batches:
        """See `ImageData.train_batches`."""
        chosen = order.train_batches(
            len(self._train), batch_size=batch_size, seed=seed, epoch=epoch, rank=rank, world=world
        )
        return self._batches(_Samples(self._train, self._view.train, (seed, epoch)), chosen)

    def test_batches(self, *, batch_size: int, rank: int = 0, world: int = 1) -> Batches:
        """See `ImageData.test_batches`."""
        chosen = order.test_batches(len(self._test), batch_size=batch_size, rank=rank, world=world)
        return self._batches(_Samples(self._test, self._view.test, None), chosen)

    def test_arrays(self, limit: int | None = None, *, offset: int = 0) -> Batch:
        """See `ImageData.test_arrays`."""
        stop = len(self._test) if limit is None else min(offset + limit, len(self._test))
        chosen = torch.arange(min(offset, stop), stop)
        return self._gather(_Samples(self._test, self._view.test, None), chosen)

    def train_samples(self, n: int, seed: int) -> Tensor:
        """See `ImageData.train_samples`."""
        chosen = order.draw(len(self._train), n, seed)
        return self._gather(_Samples(self._train, self._view.test, None), chosen)[0]

    def _gather(self, samples: _Samples, chosen: Tensor) -> Batch:
        if not len(chosen):
            return torch.empty(0, *self._info.preprocess.input_size), torch.empty(0, dtype=torch.int64)
        parts = list(self._batches(samples, list(torch.split(chosen, _TEST_BATCH))))
        return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])

    def _batches(self, samples: _Samples, chosen: Sequence[Tensor]) -> Batches:
        return _DecodedBatches(samples, chosen, self._info.preprocess, self._workers)


class _Samples(Dataset["tuple[Tensor, int] | CompressError"]):
    """Decodes and transforms; an image that cannot be decoded travels on as its error."""

    def __init__(self, images: Images, transform: Transform, seeds: tuple[int, int] | None) -> None:
        self._images = images
        self._transform = transform
        self._seeds = seeds

    def __getitem__(self, index: int) -> tuple[Tensor, int] | CompressError:
        try:
            image, label = self._images[index]
        except CompressError as error:  # raised here it would reach the user wrapped in a worker's traceback
            return error
        if self._seeds is None:
            return self._transform(image), label
        # the transforms know only the global generator: lend it to this image and put it back
        before = torch.get_rng_state()
        torch.default_generator.manual_seed(order.stable_seed("augment", *self._seeds, index))
        try:
            return self._transform(image), label
        finally:
            torch.set_rng_state(before)


class _DecodedBatches:
    def __init__(
        self, samples: _Samples, chosen: Sequence[Tensor], preprocess: Preprocess, workers: int
    ) -> None:
        self._samples = samples
        self._chosen = [part.tolist() for part in chosen]
        self._preprocess = preprocess
        self._workers = workers

    def __len__(self) -> int:
        return len(self._chosen)

    def __iter__(self) -> Iterator[Batch]:
        loader = DataLoader(
            self._samples,
            batch_sampler=self._chosen,
            collate_fn=_collate,
            num_workers=min(self._workers, len(self._chosen)),
            generator=torch.Generator().manual_seed(0),  # else it would draw from the global one
        )
        for batch in loader:
            if isinstance(batch, CompressError):
                raise batch
            images, labels = batch
            yield normalise(images, self._preprocess), labels


def _collate(samples: list[tuple[Tensor, int] | CompressError]) -> Batch | CompressError:
    """Stack uint8 images and labels, or return the first error among them."""
    images, labels = [], []
    for sample in samples:
        if isinstance(sample, CompressError):
            return sample
        images.append(sample[0])
        labels.append(sample[1])
    return torch.stack(images), torch.tensor(labels, dtype=torch.int64)
