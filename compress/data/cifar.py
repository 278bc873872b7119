"""``cifar10`` and ``cifar100``: 60,000 color images of 32x32, downloaded by torchvision (Krizhevsky 2009)."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

import torch

from compress.core.errors import CompressError, Exit
from compress.data.augment import Augmentation
from compress.data.base import ImageData
from compress.data.memory import Arrays, in_memory
from compress.data.registry import DATASETS, DataRequest

_MOMENTS10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
_MOMENTS100 = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))


@DATASETS.register("cifar10")
def cifar10(request: DataRequest) -> ImageData:
    """Load CIFAR-10, downloading it once."""
    return _load(request, "CIFAR10", _MOMENTS10)


@DATASETS.register("cifar100")
def cifar100(request: DataRequest) -> ImageData:
    """Load CIFAR-100 (fine labels), downloading it once."""
    return _load(request, "CIFAR100", _MOMENTS100)


def download_root(root: Path | None) -> Path:
    """Return the folder for downloads: `root`, else ``$COMPRESS_DATA``, else ``~/.cache/compress``."""
    if root is not None:
        return root
    chosen = os.environ.get("COMPRESS_DATA")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "compress"


def _load(request: DataRequest, kind: str, moments: tuple[tuple[float, ...], tuple[float, ...]]) -> ImageData:
    import torchvision

    root = download_root(request.root)
    dataset: Any = getattr(torchvision.datasets, kind)
    try:
        train, test = (dataset(str(root), train=part, download=True) for part in (True, False))
    except (OSError, RuntimeError, EOFError, zlib.error) as error:  # URLError and tarfile's are OSErrors
        raise CompressError(
            f"{request.name} is not in {root} and cannot be downloaded: {error}",
            hint="connect to the network once, or copy the data set to that folder, or give npz:FILE",
            code="download-failed",
            exit=Exit.MISSING,
        ) from error
    arrays = Arrays(
        *(
            tensor
            for part in (train, test)
            for tensor in (
                torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(),
                torch.tensor(part.targets),
            )
        )
    )
    return in_memory(
        request.name,
        arrays,
        list(train.classes),
        augmentation=Augmentation(pad=4, flip=True),
        input_size=request.input_size,
        moments=moments,
    )
