"""Data sets too large for memory: images decoded and augmented one at a time by worker processes.

Each image is augmented from a seed of its own, so neither the number of workers nor that of processes
changes what is seen. Pixels travel as uint8, a quarter of what floats are, and become floats on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from compress.core.errors import CompressError
from compress.core.spec import DataInfo, Preprocess
from compress.data import order
from compress.data.base import Batch, Batches
from compress.data.crops import random_crop
from compress.data.pixels import Size, normaliser
from compress.data.workers import Workers

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_CROP_SHARE = 0.875
_TEST_BATCH = 64
_FEW = 2 * _TEST_BATCH
"""So few images are decoded here: starting processes would take longer."""


class Images(Protocol):
    """Labelled images by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """Return a Pillow image in mode RGB and its label.

        Raises:
            CompressError: the image cannot be decoded; the message names it.
        """
        ...

    def pixels(self, index: int) -> tuple[Tensor, int]:
        """Return an image as uint8 `[3, H, W]`, decoded the quickest way, and its label.

        Raises:
            CompressError: as above.
        """
        ...


@dataclass(frozen=True)
class View:
    """How an image becomes a tensor, in training and in test, and the record of the latter.

    Attributes:
        train: from uint8 `[3, H, W]` and the seed of all that is random to uint8 `[C, *size]`.
        test: from a Pillow image to uint8 `[C, *size]`.
    """

    train: Callable[[Tensor, int], Tensor]
    test: Callable[[Any], Tensor]
    preprocess: Preprocess
    augmentation: str


@dataclass(frozen=True)
class ResizedCrop:
    """A random resized crop and flip of uint8 pixels to `size`, height and width."""

    size: tuple[int, int]

    def __call__(self, pixels: Tensor, seed: int) -> Tensor:
        """Return uint8 `[3, *size]`."""
        from torchvision.transforms.v2 import functional

        crop = random_crop(pixels.shape[-2], pixels.shape[-1], seed)
        image: Tensor = functional.resized_crop(
            pixels, crop.top, crop.left, crop.height, crop.width, list(self.size), antialias=True
        )
        return image.flip(-1) if crop.mirrored else image


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
    # by Pillow, to the pixel as the record says; torchvision's resize of tensors can be 2 levels off
    test = v2.Compose([v2.Resize(side, antialias=True), v2.CenterCrop(size), v2.PILToTensor()])
    preprocess = Preprocess(
        input_size=input_size, mean=IMAGENET_MEAN, std=IMAGENET_STD, resize=side, resampling="pillow"
    )
    text = "random resized crop (8% to 100% of the area), horizontal flip"
    return View(ResizedCrop((size[0], size[1])), test, preprocess, text)


class Decoded:
    """An `ImageData` over images that are decoded when they are needed.

    Args:
        train, test: the images.
        view: how they become tensors.
        info: the record.
        workers: processes that decode; 0: none.
        device: where batches are wanted.
    """

    def __init__(
        self,
        train: Images,
        test: Images,
        view: View,
        info: DataInfo,
        workers: int,
        device: torch.device | None = None,
    ) -> None:
        self._images = {True: train, False: test}
        self._view = view
        self._info = info
        self._count = max(workers, 0)
        self._device = device if device is not None else torch.device("cpu")
        samples, pin = _Samples(train, test, view), self._device.type == "cuda"
        self._workers = Workers(samples, self._count, _collate, pin=pin)
        self._here = Workers(samples, 0, _collate, pin=False)

    @property
    def info(self) -> DataInfo:
        """Names, sizes, preprocessing and fingerprint."""
        return self._info

    def deliver_to(self, device: torch.device) -> Decoded:
        """Return the same data with the batches of training and test on `device`."""
        if device == self._device:
            return self
        return type(self)(
            self._images[True], self._images[False], self._view, self._info, self._count, device
        )

    def train_batches(
        self, *, epoch: int, batch_size: int, seed: int, rank: int = 0, world: int = 1
    ) -> Batches:
        """See `ImageData.train_batches`."""
        chosen = order.train_batches(
            len(self._images[True]), batch_size=batch_size, seed=seed, epoch=epoch, rank=rank, world=world
        )
        return _DecodedBatches(self._workers, _Chosen(chosen, True, (seed, epoch)), self._normaliser)

    def test_batches(self, *, batch_size: int, rank: int = 0, world: int = 1) -> Batches:
        """See `ImageData.test_batches`."""
        chosen = order.test_batches(len(self._images[False]), batch_size=batch_size, rank=rank, world=world)
        return _DecodedBatches(self._workers, _Chosen(chosen, False, None), self._normaliser)

    def test_arrays(self, limit: int | None = None, *, offset: int = 0) -> Batch:
        """See `ImageData.test_arrays`."""
        size = len(self._images[False])
        stop = size if limit is None else min(offset + limit, size)
        return self._gather(torch.arange(min(offset, stop), stop), train=False)

    def train_samples(self, n: int, seed: int) -> Tensor:
        """See `ImageData.train_samples`."""
        return self._gather(order.draw(len(self._images[True]), n, seed), train=True)[0]

    def _normaliser(self) -> Callable[[Tensor, Tensor], Batch]:
        device, to_floats = self._device, normaliser(self._info.preprocess, self._device)

        def convert(images: Tensor, labels: Tensor) -> Batch:
            return to_floats(images.to(device, non_blocking=True)), labels.to(device, non_blocking=True)

        return convert

    def _gather(self, chosen: Tensor, *, train: bool) -> Batch:
        """Un-augmented images of either part, on the CPU."""
        preprocess = self._info.preprocess
        if not len(chosen):
            return torch.empty(0, *preprocess.input_size), torch.empty(0, dtype=torch.int64)
        workers = self._here if len(chosen) <= _FEW else self._workers
        keys = _Chosen(list(torch.split(chosen, _TEST_BATCH)), train, None)
        to_floats = normaliser(preprocess, torch.device("cpu"))
        parts = list(_DecodedBatches(workers, keys, lambda: lambda x, y: (to_floats(x), y)))
        return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])


Key = tuple[bool, int, "tuple[int, int] | None"]
"""Whether of the training part, number, and (seed, epoch) of the augmentation, if any."""


class _Chosen(Sequence[Any]):
    """The keys of every batch, made when they are asked for: an epoch of ImageNet has over a million."""

    def __init__(self, numbers: Sequence[Tensor], train: bool, seeds: tuple[int, int] | None) -> None:
        self._numbers = numbers
        self._train = train
        self._seeds = seeds

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, batch: Any) -> Any:
        return [(self._train, number, self._seeds) for number in self._numbers[batch].tolist()]


class _Samples(Dataset["tuple[Tensor, int] | CompressError"]):
    """Decodes and transforms; an image that cannot be decoded travels on as its error."""

    def __init__(self, train: Images, test: Images, view: View) -> None:
        self._images = {True: train, False: test}
        self._view = view

    def __getitem__(self, key: Key) -> tuple[Tensor, int] | CompressError:
        train, number, seeds = key
        try:
            if seeds is None:
                image, label = self._images[train][number]
                return self._view.test(image), label
            pixels, label = self._images[train].pixels(number)
            return self._view.train(pixels, order.stable_seed("augment", *seeds, number)), label
        except CompressError as error:  # raised here it would reach the user wrapped in a worker's traceback
            return error


@dataclass(frozen=True)
class _DecodedBatches:
    """Batches of the workers, converted; `convert` is made anew for every iteration."""

    workers: Workers
    keys: Sequence[Any]
    convert: Callable[[], Callable[[Tensor, Tensor], Batch]]

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Batch]:
        convert = self.convert()
        for batch in self.workers.batches(self.keys):
            if isinstance(batch, CompressError):
                raise batch
            yield convert(*batch)


def _collate(samples: list[tuple[Tensor, int] | CompressError]) -> Batch | CompressError:
    """Stack uint8 images and labels, or return the first error among them."""
    images, labels = [], []
    for sample in samples:
        if isinstance(sample, CompressError):
            return sample
        images.append(sample[0])
        labels.append(sample[1])
    return torch.stack(images), torch.tensor(labels, dtype=torch.int64)
