"""Data sets too large for memory: worker processes decode and augment the images.

Each image is augmented with its own seed, so the images do not depend on the number of workers or processes.
Pixels are transferred as uint8, a quarter of the size of floats, and converted to floats on the device.
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
from compress.data.pixels import Size, make_normalizer
from compress.data.workers import Workers

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_CROP_SHARE = 0.875
_TEST_BATCH = 64
_MAX_WITHOUT_WORKERS = 2 * _TEST_BATCH
"""Up to this many images are decoded in this process, since starting workers would take longer."""


class Images(Protocol):
    """Labeled images by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """Return a Pillow image in mode RGB and its label.

        Raises:
            CompressError: the image cannot be decoded; the message names it.
        """
        ...

    def pixels(self, index: int) -> tuple[Tensor, int]:
        """Return an image as uint8 `[3, H, W]`, decoded the fastest way, and its label.

        Raises:
            CompressError: as above.
        """
        ...


@dataclass(frozen=True)
class Transforms:
    """Transforms of an image for training and for test.

    Attributes:
        train: from uint8 `[3, H, W]` and a seed for its random values to uint8 `[C, *size]`.
        test: from a Pillow image to uint8 `[C, *size]`.
        preprocess: record of `test`.
        augmentation: description of `train`.
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
        return image.flip(-1) if crop.flipped else image


def imagenet_transforms(name: str, input_size: Size) -> Transforms:
    """Return the usual transforms of ImageNet: random resized crop and flip; center crop for test.

    Raises:
        CompressError: the input size does not have 3 channels.
    """
    from torchvision.transforms import v2

    channels, *size = input_size
    if channels != 3:
        raise CompressError(
            f"{name} is read in color, and the input size has {channels} channels",
            hint=f"give --input-size 3,{size[0]},{size[1]}",
            code="input-size",
        )
    side = round(max(size) / _CROP_SHARE)
    # by Pillow, exactly as recorded; torchvision's resize of tensors can differ by 2 of 255 levels
    test = v2.Compose([v2.Resize(side, antialias=True), v2.CenterCrop(size), v2.PILToTensor()])
    preprocess = Preprocess(
        input_size=input_size, mean=IMAGENET_MEAN, std=IMAGENET_STD, resize=side, resampling="pillow"
    )
    text = "random resized crop (8% to 100% of the area), horizontal flip"
    return Transforms(ResizedCrop((size[0], size[1])), test, preprocess, text)


class Decoded:
    """An `ImageData` whose images are decoded when they are read.

    Args:
        train, test: the images.
        transforms: convert them to tensors.
        info: the record.
        workers: processes that decode; 0: decode in this process.
        device: device of the batches; None: the CPU.
    """

    def __init__(
        self,
        train: Images,
        test: Images,
        transforms: Transforms,
        info: DataInfo,
        workers: int,
        device: torch.device | None = None,
    ) -> None:
        self._images = {True: train, False: test}
        self._transforms = transforms
        self._info = info
        self._count = max(workers, 0)
        self._device = device if device is not None else torch.device("cpu")
        samples, pin = _Samples(train, test, transforms), self._device.type == "cuda"
        self._workers = Workers(samples, self._count, _collate, pin=pin)
        self._in_process = Workers(samples, 0, _collate, pin=False)

    @property
    def info(self) -> DataInfo:
        """Names, sizes, preprocessing and fingerprint."""
        return self._info

    def deliver_to(self, device: torch.device) -> Decoded:
        """Return the same data with the training and test batches on `device`."""
        if device == self._device:
            return self
        return type(self)(
            self._images[True], self._images[False], self._transforms, self._info, self._count, device
        )

    def train_batches(
        self, *, epoch: int, batch_size: int, seed: int, rank: int = 0, world: int = 1
    ) -> Batches:
        """See `ImageData.train_batches`."""
        indices = order.train_batches(
            len(self._images[True]), batch_size=batch_size, seed=seed, epoch=epoch, rank=rank, world=world
        )
        return _DecodedBatches(self._workers, _Keys(indices, True, (seed, epoch)), self._make_converter)

    def test_batches(self, *, batch_size: int, rank: int = 0, world: int = 1) -> Batches:
        """See `ImageData.test_batches`."""
        indices = order.test_batches(len(self._images[False]), batch_size=batch_size, rank=rank, world=world)
        return _DecodedBatches(self._workers, _Keys(indices, False, None), self._make_converter)

    def test_arrays(self, limit: int | None = None, *, offset: int = 0) -> Batch:
        """See `ImageData.test_arrays`."""
        size = len(self._images[False])
        stop = size if limit is None else min(offset + limit, size)
        return self._gather(torch.arange(min(offset, stop), stop), train=False)

    def train_samples(self, n: int, seed: int) -> Tensor:
        """See `ImageData.train_samples`."""
        return self._gather(order.draw(len(self._images[True]), n, seed), train=True)[0]

    def _make_converter(self) -> Callable[[Tensor, Tensor], Batch]:
        device, to_floats = self._device, make_normalizer(self._info.preprocess, self._device)

        def convert(images: Tensor, labels: Tensor) -> Batch:
            return to_floats(images.to(device, non_blocking=True)), labels.to(device, non_blocking=True)

        return convert

    def _gather(self, indices: Tensor, *, train: bool) -> Batch:
        """Return images of one part, not augmented, on the CPU."""
        preprocess = self._info.preprocess
        if not len(indices):
            return torch.empty(0, *preprocess.input_size), torch.empty(0, dtype=torch.int64)
        workers = self._in_process if len(indices) <= _MAX_WITHOUT_WORKERS else self._workers
        keys = _Keys(list(torch.split(indices, _TEST_BATCH)), train, None)
        to_floats = make_normalizer(preprocess, torch.device("cpu"))
        parts = list(_DecodedBatches(workers, keys, lambda: lambda x, y: (to_floats(x), y)))
        return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])


Key = tuple[bool, int, "tuple[int, int] | None"]
"""Whether the image is of the training part, its index, and (seed, epoch) of its augmentation, if any."""


class _Keys(Sequence[Any]):
    """Keys of every batch, created when they are read: an epoch of ImageNet has over a million."""

    def __init__(self, indices: Sequence[Tensor], train: bool, seeds: tuple[int, int] | None) -> None:
        self._indices = indices
        self._train = train
        self._seeds = seeds

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, batch: Any) -> Any:
        return [(self._train, index, self._seeds) for index in self._indices[batch].tolist()]


class _Samples(Dataset["tuple[Tensor, int] | CompressError"]):
    """Decoded and transformed images; an image that cannot be decoded is returned as its error."""

    def __init__(self, train: Images, test: Images, transforms: Transforms) -> None:
        self._images = {True: train, False: test}
        self._transforms = transforms

    def __getitem__(self, key: Key) -> tuple[Tensor, int] | CompressError:
        train, index, seeds = key
        try:
            if seeds is None:
                image, label = self._images[train][index]
                return self._transforms.test(image), label
            pixels, label = self._images[train].pixels(index)
            return self._transforms.train(pixels, order.stable_seed("augment", *seeds, index)), label
        except CompressError as error:  # raised here, it would reach the user inside a worker's traceback
            return error


@dataclass(frozen=True)
class _DecodedBatches:
    """Converted batches of the workers; `make_convert` is called for every iteration."""

    workers: Workers
    keys: Sequence[Any]
    make_convert: Callable[[], Callable[[Tensor, Tensor], Batch]]

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Batch]:
        convert = self.make_convert()
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
