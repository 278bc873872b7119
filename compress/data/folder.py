"""``folder:DIR``: image files in one folder for each class, ``train/CLASS/*`` and ``val/CLASS/*``."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from compress.core.errors import CompressError, Exit
from compress.core.spec import DataInfo
from compress.data import dali
from compress.data.base import ImageData
from compress.data.dali import DaliDecoded
from compress.data.decode import pillow_rgb, pixels_rgb
from compress.data.decoded import Decoded, imagenet_transforms
from compress.data.registry import DATASETS, DataRequest

_DEFAULT_SIZE = (3, 224, 224)
_TEST_FOLDERS = ("val", "test")
_MAX_SHOWN = 5


class FolderImages:
    """The images of the training or the test part.

    Paths are stored as bytes in one array, not as a million strings: reading a string changes its reference
    count, so every worker process would end up with a copy of all of them.
    """

    def __init__(self, samples: Sequence[tuple[str, int]]) -> None:
        encoded = [os.fsencode(path) for path, _ in samples]
        self._text = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        self._ends = np.cumsum([len(path) for path in encoded], dtype=np.int64)
        self._labels = np.array([label for _, label in samples], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._labels)

    def path(self, index: int) -> str:
        """Return the path of an image."""
        start = int(self._ends[index - 1]) if index else 0
        return os.fsdecode(self._text[start : int(self._ends[index])].tobytes())

    def label(self, index: int) -> int:
        """Return the label of an image."""
        return int(self._labels[index])

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """Return an image and its label; see `Images`."""
        return pillow_rgb(self.path(index)), self.label(index)

    def pixels(self, index: int) -> tuple[Tensor, int]:
        """Return an image and its label; see `Images`."""
        return pixels_rgb(self.path(index)), self.label(index)


@DATASETS.register("folder", argument="DIR")
def folder(request: DataRequest) -> ImageData:
    """Load a folder with ``train`` and ``val`` (or ``test``), each with one folder for each class.

    Without an input size, images are 224x224 as in ImageNet.
    """
    if request.dali:
        dali.require()
    top = Path(request.argument).expanduser().absolute()
    train_folder, test_folder = _parts(top)
    train, classes = _index(train_folder)
    test, test_classes = _index(test_folder)
    if classes != test_classes:
        raise _class_mismatch(train_folder, test_folder, classes, test_classes)
    kind = DaliDecoded if request.dali else Decoded
    transforms = imagenet_transforms(request.name, request.input_size or _DEFAULT_SIZE)
    info = DataInfo(
        name=f"folder:{top}",
        classes=tuple(classes),
        train_size=len(train),
        test_size=len(test),
        fingerprint=_fingerprint(top, train + test),
        preprocess=transforms.preprocess,
        augmentation=transforms.augmentation,
    )
    return kind(FolderImages(train), FolderImages(test), transforms, info, request.workers)


def _parts(top: Path) -> tuple[Path, Path]:
    train = top / "train"
    test = next((top / name for name in _TEST_FOLDERS if (top / name).is_dir()), None)
    if not top.is_dir():
        raise CompressError(
            f"image folder {str(top)!r} does not exist",
            hint="check the path; if the images were moved, give their new place with --data folder:DIR",
            code="missing-file",
            exit=Exit.MISSING,
        )
    if not train.is_dir() or test is None:
        raise CompressError(
            f"image folder {str(top)!r} has no {'val' if train.is_dir() else 'train'} folder",
            hint="arrange the images as DIR/train/CLASS/... and DIR/val/CLASS/...",
            code="missing-file",
            exit=Exit.MISSING,
        )
    return train, test


def _index(part: Path) -> tuple[list[tuple[str, int]], list[str]]:
    """Return the image files of a part with their labels, and the names of its classes."""
    from torchvision.datasets import ImageFolder

    try:
        images = ImageFolder(str(part))
    except FileNotFoundError as error:  # no class folders, or one without images
        raise CompressError(
            f"{part}: {str(error).partition(' Supported')[0].strip()}",
            hint="each class needs a folder with at least one image",
            code="data-format",
        ) from error
    return list(images.samples), list(images.classes)


def _fingerprint(top: Path, samples: list[tuple[str, int]]) -> str:
    """Return the SHA-256 over the sorted relative paths and the sizes in bytes."""
    sha = hashlib.sha256()
    for path in sorted(Path(p) for p, _ in samples):
        sha.update(f"{path.relative_to(top).as_posix()}\0{path.stat().st_size}\n".encode())
    return sha.hexdigest()


def _class_mismatch(
    train: Path, test: Path, train_classes: list[str], test_classes: list[str]
) -> CompressError:
    parts = []
    for where, extra in (
        (train, set(train_classes) - set(test_classes)),
        (test, set(test_classes) - set(train_classes)),
    ):
        if extra:
            words = sorted(extra)
            more = ", ..." if len(words) > _MAX_SHOWN else ""
            parts.append(f"only in {where}: {', '.join(words[:_MAX_SHOWN])}{more}")
    return CompressError(
        f"{train} has {len(train_classes)} classes and {test} {len(test_classes)}; {'; '.join(parts)}",
        hint="both must have the same class folders",
        code="data-format",
    )
