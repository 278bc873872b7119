"""The registry of sources: a decorator files a loader under the word before the colon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from compress.core.errors import CompressError, did_you_mean
from compress.data.base import ImageData


@dataclass(frozen=True)
class Request:
    """What was asked of a source.

    Attributes:
        name: the whole name, such as ``npz:faces.npz``.
        argument: what stands after the colon; empty for a source without one.
        input_size: channels, height and width the network takes; None: as the images come.
        root: folder for downloads; None: the source's own choice.
        workers: processes that decode images, where the source uses any.
        dali: decode training images on the GPU.
    """

    name: str
    argument: str
    input_size: tuple[int, int, int] | None
    root: Path | None
    workers: int
    dali: bool = False


Loader = Callable[[Request], ImageData]


@dataclass(frozen=True)
class _Source:
    loader: Loader
    argument: str


_SOURCES: dict[str, _Source] = {}
_DALI = "folder"
"""The source that DALI can read."""


def source(word: str, argument: str = "") -> Callable[[Loader], Loader]:
    """File the decorated loader under `word`; `argument` says what follows the colon, such as ``FILE``.

    Raises:
        ValueError: the word is already taken.
    """

    def decorate(loader: Loader) -> Loader:
        if word in _SOURCES:
            raise ValueError(f"a data source named {word!r} is registered twice")
        _SOURCES[word] = _Source(loader, argument)
        return loader

    return decorate


def list_datasets() -> list[str]:
    """Return the forms a data set's name can have, such as ``cifar10`` and ``npz:FILE``, sorted."""
    return sorted(f"{word}:{s.argument}" if s.argument else word for word, s in _SOURCES.items())


def load(
    name: str,
    input_size: tuple[int, int, int] | None = None,
    root: Path | None = None,
    workers: int = 2,
    dali: bool = False,
) -> ImageData:
    """Load the data set `name`.

    Args:
        name: ``digits``, ``cifar10``, ``cifar100``, ``npz:FILE``, ``folder:DIR`` or ``hf:NAME``.
        input_size: channels, height and width of the images wanted; None: the source's own. Gray images are
            repeated to 3 channels; colour is never turned gray.
        root: folder for downloads; None: ``$COMPRESS_DATA``, or ``~/.cache/compress``.
        workers: processes that decode images (``folder:`` and ``hf:``); 0: none.
        dali: decode training images on the GPU (``folder:`` alone; needs NVIDIA DALI).

    Raises:
        CompressError: an unknown name, or a file, package or folder that is missing or not as it should be.
    """
    word, colon, argument = name.partition(":")
    if word not in _SOURCES:
        raise _unknown(name, word)
    found = _SOURCES[word]
    if bool(found.argument) != bool(argument) or (colon and not found.argument):
        form = f"{word}:{found.argument}" if found.argument else word
        raise CompressError(f"{name!r} is not a data set's name", hint=f"write {form}", code="unknown-data")
    if input_size is not None and (len(input_size) != 3 or min(input_size) < 1):
        raise CompressError(
            f"{name}: the input size is {tuple(input_size)}",
            hint="give channels, height and width, such as 3,32,32",
            code="input-size",
        )
    if dali and word != _DALI:
        raise CompressError(
            f"--dali reads image files and {name!r} are none",
            hint="leave out --dali, or give the images as folder:DIR",
            code="bad-option",
        )
    return found.loader(Request(name, argument, input_size, root, workers, dali))


def _unknown(name: str, word: str) -> CompressError:
    path = Path(name)
    if path.suffix == ".npz":
        guess = f"Did you mean npz:{name}?"
    elif path.is_dir():
        guess = f"Did you mean folder:{name}?"
    else:
        guess = did_you_mean(word, _SOURCES)
    return CompressError(
        f"unknown data set {name!r}",
        hint=f"{guess} known: {', '.join(list_datasets())}".strip(),
        code="unknown-data",
    )
