"""``folder:DIR``: images sorted into folders by class, as ImageNet is: ``train/CLASS/*``, ``val/CLASS/*``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from compress.data.base import ImageData
from compress.data.decoded import Decoded, imagenet_view
from compress.data.registry import Request, source
from compress.errors import CompressError, Exit
from compress.spec import DataInfo

_DEFAULT_SIZE = (3, 224, 224)
_TEST_FOLDERS = ("val", "test")
_SHOWN = 5


class FolderImages:
    """The images of one part, decoded as RGB by Pillow."""

    def __init__(self, samples: list[tuple[str, int]]) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """Return an image and its label; see `Images`."""
        from PIL import Image

        path, label = self._samples[index]
        try:
            with Image.open(path) as image:
                return image.convert("RGB"), label
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            reason = str(error) if path not in str(error) else type(error).__name__
            raise CompressError(
                f"image {path} cannot be decoded: {reason}",
                hint="replace the file or remove it",
                code="data-unreadable",
                exit=Exit.MISSING,
            ) from error


@source("folder", "DIR")
def folder(request: Request) -> ImageData:
    """Load a folder with ``train`` and ``val`` (or ``test``), each with one folder a class.

    Without an input size, images are 224x224 as in ImageNet.
    """
    top = Path(request.argument).expanduser().absolute()
    train_at, test_at = _parts(top)
    train, classes = _index(train_at)
    test, test_classes = _index(test_at)
    if classes != test_classes:
        raise _other_classes(train_at, test_at, classes, test_classes)
    view = imagenet_view(request.name, request.input_size or _DEFAULT_SIZE)
    info = DataInfo(
        name=f"folder:{top}",
        classes=tuple(classes),
        train_size=len(train),
        test_size=len(test),
        fingerprint=_fingerprint(top, train + test),
        preprocess=view.preprocess,
        augmentation=view.augmentation,
    )
    return Decoded(FolderImages(train), FolderImages(test), view, info, request.workers)


def _parts(top: Path) -> tuple[Path, Path]:
    train = top / "train"
    test = next((top / name for name in _TEST_FOLDERS if (top / name).is_dir()), None)
    if not train.is_dir() or test is None:
        what = (
            "does not exist" if not top.is_dir() else f"has no {'val' if train.is_dir() else 'train'} folder"
        )
        raise CompressError(
            f"image folder {str(top)!r} {what}",
            hint="lay the images out as DIR/train/CLASS/... and DIR/val/CLASS/...",
            code="missing-file",
            exit=Exit.MISSING,
        )
    return train, test


def _index(part: Path) -> tuple[list[tuple[str, int]], list[str]]:
    """Return the image files of a part with their labels, and the names of its classes."""
    from torchvision.datasets import ImageFolder

    try:
        found = ImageFolder(str(part))
    except FileNotFoundError as error:  # no class folders, or one without images
        raise CompressError(
            f"{part}: {str(error).partition(' Supported')[0].strip()}",
            hint="each class is a folder with at least one image",
            code="data-format",
        ) from error
    return list(found.samples), list(found.classes)


def _fingerprint(top: Path, samples: list[tuple[str, int]]) -> str:
    """Return the SHA-256 over the sorted relative paths and the sizes in bytes."""
    sha = hashlib.sha256()
    for path in sorted(Path(p) for p, _ in samples):
        sha.update(f"{path.relative_to(top).as_posix()}\0{path.stat().st_size}\n".encode())
    return sha.hexdigest()


def _other_classes(train: Path, test: Path, ours: list[str], theirs: list[str]) -> CompressError:
    parts = []
    for where, extra in ((train, set(ours) - set(theirs)), (test, set(theirs) - set(ours))):
        if extra:
            words = sorted(extra)
            more = ", ..." if len(words) > _SHOWN else ""
            parts.append(f"only in {where}: {', '.join(words[:_SHOWN])}{more}")
    return CompressError(
        f"{train} has {len(ours)} classes and {test} {len(theirs)}; {'; '.join(parts)}",
        hint="both must have the same class folders",
        code="data-format",
    )
