"""`DATASETS`: the data sets that ``--data`` knows, and `load`, which resolves a name.

A built-in data set is one file with a loader and `DATASETS.register`. Another package adds one with an entry
point of the group ``compress.datasets`` that names a loader, or a `DatasetEntry`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from compress.core.errors import CompressError, did_you_mean
from compress.core.registry import Registry
from compress.data.base import ImageData
from compress.data.user_data import PREFIX, from_torch


@dataclass(frozen=True)
class DataRequest:
    """What a loader gets.

    Attributes:
        name: the whole name, such as ``npz:faces.npz``.
        argument: the part after the colon; empty for a data set without one.
        input_size: channels, height and width that the network takes; None: as the images are.
        root: folder for downloads; None: the loader's default.
        workers: processes that decode images, where the loader uses any.
        dali: decode training images on the GPU.
    """

    name: str
    argument: str
    input_size: tuple[int, int, int] | None
    root: Path | None
    workers: int
    dali: bool = False


Loader = Callable[[DataRequest], Any]
"""Returns an `ImageData`, or a pair of torch datasets or data loaders for training and test."""

D = TypeVar("D")


@dataclass(frozen=True)
class DatasetEntry:
    """A registered data set.

    Attributes:
        loader: loads the images.
        argument: what follows the colon in the name, such as ``FILE``; empty if nothing does.
    """

    loader: Loader
    argument: str = ""


class DatasetRegistry(Registry[DatasetEntry]):
    """A `Registry` whose decorator takes a loader."""

    def register(self, name: str, *, argument: str = "") -> Callable[[D], D]:
        """Return a decorator that registers a loader under `name`; see `DatasetEntry`."""

        def decorate(loader: D) -> D:
            self.add(name, DatasetEntry(cast(Loader, loader), argument))
            return loader

        return decorate


def _entry(name: str, loaded: object) -> DatasetEntry:
    if isinstance(loaded, DatasetEntry):
        return loaded
    if not callable(loaded):
        raise TypeError(f"a {type(loaded).__name__} is not a loader")
    return DatasetEntry(cast(Loader, loaded))


DATASETS = DatasetRegistry(
    "data set", group="datasets", package="compress.data", convert=_entry, error_code="unknown-data"
)

_FOR_DALI = "folder"
"""The data set that DALI can read."""


def list_datasets() -> list[str]:
    """Return the names that ``--data`` takes, such as ``cifar10`` and ``npz:FILE``, sorted."""
    return sorted(f"{name}:{e.argument}" if e.argument else name for name, e in DATASETS.items())


def load(
    name: str,
    input_size: tuple[int, int, int] | None = None,
    root: Path | None = None,
    workers: int = 2,
    dali: bool = False,
) -> ImageData:
    """Load the data set `name`.

    Args:
        name: one of `list_datasets`, such as ``digits``, ``cifar10``, ``npz:FILE``, ``folder:DIR`` or
            ``hf:NAME``.
        input_size: channels, height and width of the images to return; None: the data set's own. Gray images
            are repeated to 3 channels; color images are never converted to gray.
        root: folder for downloads; None: ``$COMPRESS_DATA``, or ``~/.cache/compress``.
        workers: processes that decode images (``folder:`` and ``hf:``); 0: none.
        dali: decode training images on the GPU (``folder:`` only; needs NVIDIA DALI).

    Raises:
        CompressError: an unknown name, or a file, package or folder that is missing or has another form.
    """
    word, colon, argument = name.partition(":")
    if word not in DATASETS:
        raise _unknown(name, word)
    entry = DATASETS[word]
    if bool(entry.argument) != bool(argument) or (colon and not entry.argument):
        form = f"{word}:{entry.argument}" if entry.argument else word
        raise CompressError(
            f"{name!r} is not the name of a data set", hint=f"write {form}", code="unknown-data"
        )
    if input_size is not None and (len(input_size) != 3 or min(input_size) < 1):
        raise CompressError(
            f"{name}: invalid input size {tuple(input_size)}",
            hint="give channels, height and width, such as 3,32,32",
            code="input-size",
        )
    if dali and word != _FOR_DALI:
        raise CompressError(
            f"--dali reads image files, and {name!r} has none",
            hint="leave out --dali, or give the images as folder:DIR",
            code="bad-option",
        )
    loaded = entry.loader(DataRequest(name, argument, input_size, root, workers, dali))
    if isinstance(loaded, tuple) and len(loaded) == 2:
        loaded = from_torch(*loaded, name=name, workers=workers)
    return _with_interface(name, loaded, input_size)


def _with_interface(name: str, loaded: Any, input_size: tuple[int, int, int] | None) -> ImageData:
    """Return what a loader returned if it is an `ImageData` of the requested size, else raise."""
    methods = ("info", "train_batches", "test_batches", "test_arrays", "train_samples")
    missing = [method for method in methods if not hasattr(loaded, method)]
    if missing:
        raise CompressError(
            f"the loader of {name!r} returned a {type(loaded).__name__} without {', '.join(missing)}",
            hint="return an ImageData, or a pair of torch datasets (train, test)",
            code="data-format",
        )
    data = cast(ImageData, loaded)
    size = data.info.preprocess.input_size
    if input_size is not None and size != tuple(input_size):
        raise CompressError(
            f"the images of {name!r} are {','.join(map(str, size))}, not {','.join(map(str, input_size))}",
            hint=f"leave out --input-size, or give {','.join(map(str, size))}",
            code="input-size",
        )
    return data


def _unknown(name: str, word: str) -> CompressError:
    if word in DATASETS.failures:
        DATASETS.get_or_raise(word)
    path = Path(name)
    if name.startswith(PREFIX):
        return CompressError(
            f"the data {name!r} was passed as Python objects and cannot be loaded by name",
            hint="pass the objects again, or register a loader for it (entry point group compress.datasets)",
            code="unknown-data",
        )
    if path.suffix == ".npz":
        guess = f"Did you mean npz:{name}?"
    elif path.is_dir():
        guess = f"Did you mean folder:{name}?"
    else:
        guess = did_you_mean(word, DATASETS)
    return CompressError(
        f"unknown data set {name!r}",
        hint=f"{guess} Known: {', '.join(list_datasets())}".strip(),
        code="unknown-data",
    )
