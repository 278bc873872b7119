"""A user's own torch `Dataset` or `DataLoader` objects as an `ImageData`.

Order and batches are those of `compress.data.order`, and the random generators that a training transform may
use are seeded for every sample from (seed, epoch, index). A resumed training therefore sees the same images,
whatever the number of worker processes.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
    default_collate,
)

from compress.core.errors import CompressError
from compress.core.spec import DataInfo, Preprocess
from compress.data import order
from compress.data.base import Batch, Batches
from compress.data.pixels import normalize
from compress.data.workers import Workers

PREFIX = "torch:"
"""Start of the name of a data set that was passed as objects; such a name cannot be loaded again."""

Source = Dataset[Any] | DataLoader[Any]
_FINGERPRINT_SAMPLES = 16
_BATCH = 64


def from_torch(
    train: Source,
    test: Source,
    *,
    classes: Sequence[str] | int | None = None,
    preprocess: Preprocess | None = None,
    name: str | None = None,
    workers: int | None = None,
    default_classes: int | None = None,
) -> UserData:
    """Return two torch datasets or data loaders as data for training, evaluation and calibration.

    A sample is ``(image, label)``. The image is a float tensor `[C, H, W]`, used as it is; or a uint8 tensor
    `[C, H, W]` or a Pillow image, which is normalized as `preprocess` says. All images have one size. The
    label is an integer from 0.

    A `DataLoader` contributes its dataset, `collate_fn`, `num_workers` and batch size (see
    `UserData.batch_size`); the order is that of the training's seed. A training loader with a sampler of its
    own, or over an `IterableDataset`, keeps its own batches and works in one process only.

    Args:
        train: training samples, with their random augmentation.
        test: test samples, without augmentation.
        classes: names of the labels 0, 1, ..., or their number; None: taken from the dataset's ``classes``,
            ``targets``, ``labels``, or from a `TensorDataset`.
        preprocess: how an input tensor is made from pixels, as recorded for deployment. For float images it
            describes what the dataset's transform does. None: pixels divided by 255.
        name: name of the data in records; None: the name of the dataset's class.
        workers: processes that load samples; None: the training loader's `num_workers`, or 0.
        default_classes: number of classes if neither `classes` nor the datasets tell it.

    Raises:
        CompressError: ``data-format``: the samples have another form, or the classes are unknown.
    """
    train_part, test_part = _Part.of(train, "train"), _Part.of(test, "test")
    if test_part.dataset is None:
        raise _wrong(
            "the test data is iterable-style", "give a map-style Dataset, with __len__ and __getitem__"
        )
    names = _class_names(classes, default_classes, train_part, test_part)
    image, _ = _sample(_collated(test_part.collate, [test_part.dataset[0]]), "test", len(names))
    size = (image.shape[1], image.shape[2], image.shape[3])
    if preprocess is None:
        preprocess = Preprocess(
            input_size=size,
            mean=(0.0,) * size[0],
            std=(1.0,) * size[0],
            color="L" if size[0] == 1 else "RGB",
        )
    elif preprocess.input_size != size:
        raise _wrong(
            f"the images are {list(size)}, but preprocess.input_size is {list(preprocess.input_size)}",
            "give the size of the tensors that the datasets return",
        )
    chosen = name if name is not None else PREFIX + type(_innermost(train_part.source)).__name__
    info = DataInfo(
        name=chosen,
        classes=tuple(names),
        train_size=train_part.size,
        test_size=test_part.size,
        fingerprint=_fingerprint(train_part, test_part, len(names)),
        preprocess=preprocess,
        augmentation="the dataset's own",
    )
    return UserData(train_part, test_part, info, train_part.workers if workers is None else workers)


@dataclass(frozen=True)
class _Part:
    """Training or test samples.

    Attributes:
        source: the object the user gave.
        dataset: map-style dataset; None: `loader` is iterated instead.
        loader: a loader whose own batches are used.
        collate: makes a batch of samples.
        size: number of samples.
        batch_size: of the user's loader, if there is one.
        workers: of the user's loader, else 0.
    """

    source: Source
    dataset: Any
    loader: DataLoader[Any] | None
    collate: Callable[[list[Any]], Any]
    size: int
    batch_size: int | None = None
    workers: int = 0

    @classmethod
    def of(cls, source: Source, part: str) -> _Part:
        """Take a dataset or a loader apart."""
        loader = source if isinstance(source, DataLoader) else None
        dataset = source if loader is None else loader.dataset
        is_iterable = isinstance(dataset, IterableDataset)
        if not is_iterable and not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
            raise _wrong(
                f"the {part} data is a {type(source).__name__}",
                "give a torch Dataset with __len__ and __getitem__, or a DataLoader of one",
            )
        if is_iterable and loader is None:
            raise _wrong(
                f"the {part} data is an IterableDataset", "give a DataLoader of it, or a map-style Dataset"
            )
        if loader is None:
            size = len(dataset)  # type: ignore[arg-type]
            collate, batch_size, workers = default_collate, None, 0
        else:
            size, collate = _loader_size(loader, part), loader.collate_fn
            batch_size, workers = loader.batch_size, loader.num_workers
        if size < 1:
            raise _wrong(f"the {part} data is empty", "give at least one sample")
        own_batches = loader is not None and (is_iterable or (part == "train" and not _is_plain(loader)))
        return cls(
            source=source,
            dataset=None if is_iterable else dataset,
            loader=loader if own_batches else None,
            collate=collate,
            size=size,
            batch_size=batch_size,
            workers=workers,
        )


class UserData:
    """`ImageData` over a user's datasets or loaders; made by `from_torch`."""

    def __init__(self, train: _Part, test: _Part, info: DataInfo, workers: int) -> None:
        self._train = train
        self._test = test
        self._info = info
        collate = _Collate(train.collate, test.collate, info)
        samples = _Samples(train.dataset, test.dataset)
        self._workers = Workers(samples, max(workers, 0), collate, pin=False)

    @property
    def info(self) -> DataInfo:
        """Names, sizes, preprocessing and fingerprint."""
        return self._info

    @property
    def batch_size(self) -> int | None:
        """Batch size of the training loader; None if a dataset was given. The default for training."""
        return self._train.batch_size

    def train_batches(
        self, *, epoch: int, batch_size: int, seed: int, rank: int = 0, world: int = 1
    ) -> Batches:
        """See `ImageData.train_batches`; a loader with a sampler of its own keeps its batch size.

        Raises:
            CompressError: such a loader in several processes.
        """
        if self._train.loader is not None:
            if world > 1:
                raise CompressError(
                    "a DataLoader with a sampler of its own cannot be shared by several processes",
                    hint="give the Dataset instead; each process then gets its share of it",
                    code="data-format",
                )
            return _LoaderBatches(self._train.loader, self._info, order.stable_seed("loader", seed, epoch))
        chosen = order.train_batches(
            self._train.size, batch_size=batch_size, seed=seed, epoch=epoch, rank=rank, world=world
        )
        return _IndexedBatches(self._workers, chosen, True, (seed, epoch))

    def test_batches(self, *, batch_size: int, rank: int = 0, world: int = 1) -> Batches:
        """See `ImageData.test_batches`."""
        chosen = order.test_batches(self._test.size, batch_size=batch_size, rank=rank, world=world)
        return _IndexedBatches(self._workers, chosen, False, None)

    def test_arrays(self, limit: int | None = None, *, offset: int = 0) -> Batch:
        """See `ImageData.test_arrays`."""
        stop = self._test.size if limit is None else min(offset + limit, self._test.size)
        return self._gather(torch.arange(min(offset, stop), stop), train=False)

    def train_samples(self, n: int, seed: int) -> Tensor:
        """See `ImageData.train_samples`; the dataset's own augmentation is applied."""
        if self._train.dataset is None:
            batches = self.train_batches(epoch=0, batch_size=_BATCH, seed=seed)
            images: list[Tensor] = []
            for batch, _ in batches:
                images.append(batch)
                if sum(map(len, images)) >= n:
                    break
            return torch.cat(images)[:n]
        return self._gather(order.draw(self._train.size, n, seed), train=True)[0]

    def _gather(self, indices: Tensor, *, train: bool) -> Batch:
        if not len(indices):
            return torch.empty(0, *self._info.preprocess.input_size), torch.empty(0, dtype=torch.int64)
        seeds = (0, 0) if train else None
        batches = list(_IndexedBatches(self._workers, list(torch.split(indices, _BATCH)), train, seeds))
        return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


Key = tuple[bool, int, "tuple[int, int] | None"]
"""Whether the sample is of the training part, its index, and (seed, epoch) of its augmentation, if any."""


class _Samples(Dataset["tuple[bool, Any]"]):
    """Both parts by key; the generators of random transforms are seeded for a training sample."""

    def __init__(self, train: Any, test: Any) -> None:
        self._train = train
        self._test = test

    def __getitem__(self, key: Key) -> tuple[bool, Any]:
        train, index, seeds = key
        if seeds is None:
            return train, (self._train if train else self._test)[index]
        with _PrivateGenerators(order.stable_seed("user", *seeds, index)).active():
            return train, self._train[index]


@dataclass(frozen=True)
class _Collate:
    """Make a normalized batch of samples of one part."""

    train: Callable[[list[Any]], Any]
    test: Callable[[list[Any]], Any]
    info: DataInfo

    def __call__(self, samples: list[tuple[bool, Any]]) -> Batch:
        is_train = samples[0][0]
        collate = self.train if is_train else self.test
        batch = _collated(collate, [sample for _, sample in samples])
        return _checked(batch, "train" if is_train else "test", self.info)


@dataclass(frozen=True)
class _IndexedBatches:
    """Batches of samples by index."""

    workers: Workers
    indices: Sequence[Tensor]
    train: bool
    seeds: tuple[int, int] | None

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Batch]:
        keys = [[(self.train, index, self.seeds) for index in batch.tolist()] for batch in self.indices]
        return self.workers.batches(keys)


@dataclass(frozen=True)
class _LoaderBatches:
    """The full batches of a user's loader, whose use of the global generators is seeded and undone."""

    loader: DataLoader[Any]
    info: DataInfo
    seed: int

    def __len__(self) -> int:
        size = self.loader.batch_size
        if size is None or self.loader.drop_last or isinstance(self.loader.dataset, IterableDataset):
            return len(self.loader)
        return max(len(self.loader.sampler) // size, 1)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Batch]:
        generators = _PrivateGenerators(self.seed)
        with generators.active():
            batches = iter(self.loader)
        for _ in range(len(self)):
            with generators.active():
                batch = next(batches, None)
            if batch is None:
                return
            yield _checked(batch, "train", self.info)


class _PrivateGenerators:
    """States of the global generators of torch (CPU), NumPy and Python that only one user draws from."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._states: tuple[Any, ...] | None = None

    @contextmanager
    def active(self) -> Iterator[None]:
        """Run a block with the private states; outside of it the global generators are as they were."""
        outside = _generator_states()
        if self._states is None:
            torch.default_generator.manual_seed(self._seed)
            np.random.seed(self._seed % 2**32)
            random.seed(self._seed)
        else:
            _set_generator_states(self._states)
        try:
            yield
        finally:
            self._states = _generator_states()
            _set_generator_states(outside)


def _generator_states() -> tuple[Any, ...]:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()


def _set_generator_states(states: tuple[Any, ...]) -> None:
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])
    random.setstate(states[2])


def _is_plain(loader: DataLoader[Any]) -> bool:
    """Return whether a loader takes each sample once, in order or shuffled."""
    return type(loader.sampler) in (RandomSampler, SequentialSampler) and (
        loader.batch_sampler is None or type(loader.batch_sampler) is BatchSampler
    )


def _loader_size(loader: DataLoader[Any], part: str) -> int:
    try:
        return len(loader.dataset)  # type: ignore[arg-type]
    except TypeError:
        pass
    try:
        return len(loader) * (loader.batch_size or 1)
    except TypeError:
        raise _wrong(f"the {part} loader has no length", "give its dataset a method __len__") from None


def _innermost(source: Any) -> Any:
    """Return the dataset inside a loader or subsets."""
    while isinstance(source, DataLoader | Subset):
        source = source.dataset
    return source


def _class_names(
    classes: Sequence[str] | int | None, default: int | None, train: _Part, test: _Part
) -> list[str]:
    if isinstance(classes, int):
        return [str(label) for label in range(classes)]
    if classes is not None:
        return [str(name) for name in classes]
    for part in (train, test):
        dataset = _innermost(part.source)
        named = getattr(dataset, "classes", None)
        if named is not None and not isinstance(named, int):
            return [str(name) for name in named]
    labels = [_labels(_innermost(part.source)) for part in (train, test)]
    known = [int(torch.as_tensor(values).max()) for values in labels if values is not None]
    if not known and default is not None:
        return [str(label) for label in range(default)]
    if not known:
        raise _wrong(
            "the number of classes is unknown: the datasets have no attribute classes, targets or labels",
            "pass num_classes=NUMBER to compress.train, or compress.data.from_torch(..., classes=[names])",
        )
    return [str(label) for label in range(max(known) + 1)]


def _labels(dataset: Any) -> Any:
    if isinstance(dataset, TensorDataset):
        return dataset.tensors[-1]
    for attribute in ("targets", "labels"):
        values = getattr(dataset, attribute, None)
        if values is not None and len(values):
            return values
    return None


def _fingerprint(train: _Part, test: _Part, num_classes: int) -> str:
    """Return the SHA-256 over the sizes and up to 16 samples of each part, evenly spaced."""
    sha = hashlib.sha256()
    for name, part in (("train", train), ("test", test)):
        sha.update(f"{part.size}\n".encode())
        if part.dataset is None:
            continue
        for index in range(0, part.size, -(-part.size // _FINGERPRINT_SAMPLES)):
            with _PrivateGenerators(0).active():
                batch = _collated(part.collate, [part.dataset[index]])
            images, labels = _sample(batch, name, num_classes)
            sha.update(np.ascontiguousarray(images.numpy()).tobytes())
            sha.update(f"{labels.tolist()}\n".encode())
    return sha.hexdigest()


def _collated(collate: Callable[[list[Any]], Any], samples: list[Any]) -> Any:
    """Collate samples; Pillow images become uint8 tensors first."""
    converted = [
        (_tensor(sample[0]), *sample[1:]) if isinstance(sample, tuple | list) and len(sample) > 1 else sample
        for sample in samples
    ]
    try:
        return collate(converted)
    except RuntimeError as error:
        raise _wrong(
            f"the samples cannot be put into one batch: {error}", "resize all images to one size"
        ) from error


def _tensor(image: Any) -> Any:
    from PIL import Image

    if not isinstance(image, Image.Image):
        return image
    from torchvision.transforms.v2 import functional

    return functional.pil_to_tensor(image)


def _sample(batch: Any, part: str, num_classes: int) -> Batch:
    """Return images `[B, C, H, W]` and labels int64 `[B]` of a collated batch, or raise what is wrong."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise _wrong(
            f"a {part} sample is a {type(batch).__name__}, not (image, label)", "return (image, label)"
        )
    images, labels = batch
    if not isinstance(images, Tensor) or images.ndim != 4:
        shape = list(images.shape[1:]) if isinstance(images, Tensor) else type(images).__name__
        raise _wrong(f"a {part} image is {shape}", "return tensors [channels, height, width]")
    labels = torch.as_tensor(labels)
    if labels.ndim != 1 or labels.is_floating_point():
        raise _wrong(
            f"a {part} label is {labels.dtype} of shape {list(labels.shape[1:])}", "return one integer from 0"
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        outside = int(labels.min()) if int(labels.min()) < 0 else int(labels.max())
        raise _wrong(
            f"a {part} label is {outside}, but there are {num_classes} classes", "number classes from 0"
        )
    return images, labels.to(torch.int64)


def _checked(batch: Any, part: str, info: DataInfo) -> Batch:
    """Return a batch as the network takes it: float32 of the recorded size, labels int64."""
    images, labels = _sample(batch, part, info.num_classes)
    size = info.preprocess.input_size
    if tuple(images.shape[1:]) != size:
        raise _wrong(
            f"a {part} image is {list(images.shape[1:])}, the first {list(size)}", "resize all to one size"
        )
    if images.dtype == torch.uint8:
        return normalize(images, info.preprocess), labels
    return images.to(torch.float32), labels


def _wrong(what: str, hint: str) -> CompressError:
    return CompressError(what, hint=hint, code="data-format")
