"""``hf:NAME``: a data set of the Hugging Face hub, or a local folder that its library reads.

``hf:NAME:CONFIG`` chooses a configuration. Image and label column are recognized by their types. Small images
of one size are held in memory and augmented like CIFAR; others are decoded and augmented like ImageNet.
"""

from __future__ import annotations

import hashlib
import io
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compress.core.errors import CompressError, Exit
from compress.core.spec import DataInfo
from compress.data.augment import Augmentation
from compress.data.base import ImageData
from compress.data.decoded import Decoded, imagenet_transforms
from compress.data.memory import Arrays, in_memory
from compress.data.registry import DATASETS, DataRequest

_DEFAULT_SIZE = (3, 224, 224)
_SMALL_SIDE = 64
_TEST_SPLITS = ("test", "validation", "valid", "val")
_LABELS = ("label", "labels", "fine_label")


class HubImages:
    """One split; the image column holds encoded bytes, so that the error for a broken image names it."""

    def __init__(self, split: Any, image: str, label: str, what: str) -> None:
        self._split = split
        self._image = image
        self._label = label
        self._what = what

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """Return an image and its label; see `Images`."""
        image, label = self.raw(index)
        return image.convert("RGB"), label

    def pixels(self, index: int) -> tuple[Tensor, int]:
        """Return an image and its label; see `Images`."""
        from torchvision.transforms.v2 import functional

        image, label = self[index]
        pixels: Tensor = functional.pil_to_tensor(image)
        return pixels, label

    def raw(self, index: int) -> tuple[Any, int]:
        """Return an image in the mode it was stored in, and its label."""
        from PIL import Image

        row = self._split[index]
        cell = row[self._image]
        try:
            image = Image.open(io.BytesIO(cell["bytes"]) if cell["bytes"] else cell["path"])
            image.load()
        except (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError) as error:
            raise CompressError(
                f"image {index} of {self._what} cannot be decoded: {error}",
                hint="choose another data set, or fix this one",
                code="data-unreadable",
                exit=Exit.MISSING,
            ) from error
        label = row[self._label]
        if label is None or label < 0:
            raise CompressError(
                f"image {index} of {self._what} has no label",
                hint="choose another data set",
                code="data-format",
            )
        return image, int(label)


@DATASETS.register("hf", argument="NAME")
def hub(request: DataRequest) -> ImageData:
    """Load a data set with the package ``datasets``, which downloads it if it is not cached."""
    splits = _load(request)
    if "train" not in splits:
        raise _split_error(request.name, splits)
    image, label = _columns(request.name, splits["train"].features)
    # a test split whose labels are withheld (None or -1) cannot be used
    test_name = next((s for s in _TEST_SPLITS if s in splits and _labelled(splits[s], label)), None)
    if test_name is None:
        raise _split_error(request.name, splits)
    classes = list(splits["train"].features[label].names)
    fingerprint = hashlib.sha256(
        "\n".join(f"{s}\0{len(splits[s])}\0{splits[s]._fingerprint}" for s in ("train", test_name)).encode()
    ).hexdigest()
    train, test = (
        HubImages(_undecoded(splits[s], image), image, label, f"{request.name} ({s})")
        for s in ("train", test_name)
    )
    if max(train.raw(0)[0].size) <= _SMALL_SIDE:
        return _small(request, train, test, classes)
    transforms = imagenet_transforms(request.name, request.input_size or _DEFAULT_SIZE)
    info = DataInfo(
        name=request.name,
        classes=tuple(classes),
        train_size=len(train),
        test_size=len(test),
        fingerprint=fingerprint,
        preprocess=transforms.preprocess,
        augmentation=transforms.augmentation,
    )
    return Decoded(train, test, transforms, info, request.workers)


def _load(request: DataRequest) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise CompressError(
            f"{request.name} needs the package datasets, which is not installed",
            hint="pip install 'compress-cnn[hf]'",
            code="missing-package",
            exit=Exit.MISSING,
        ) from error
    path, _, config = request.argument.partition(":")
    cache = str(request.root) if request.root else None
    try:
        return datasets.load_dataset(path, config or None, cache_dir=cache)
    except Exception as error:  # errors of the library, of the network and of file formats
        reason = str(error).strip().partition("\n")[0]
        raise CompressError(
            f"{request.name} cannot be loaded: {type(error).__name__}: {reason}",
            hint="check the name and the network, or give the images as npz:FILE or folder:DIR",
            code="download-failed",
            exit=Exit.MISSING,
        ) from error


def _columns(name: str, features: Any) -> tuple[str, str]:
    """Return the names of the image and the label column."""
    import datasets

    images = [k for k, v in features.items() if isinstance(v, datasets.Image)]
    labels = [k for k, v in features.items() if isinstance(v, datasets.ClassLabel)]
    chosen = labels if len(labels) == 1 else [k for k in _LABELS if k in labels]
    if len(images) != 1 or not chosen:
        kinds = ", ".join(f"{k}: {type(v).__name__}" for k, v in features.items())
        raise CompressError(
            f"{name} has no usable image and label columns, only {kinds}",
            hint="one Image column is needed, and one ClassLabel column (or one called label)",
            code="data-format",
        )
    return images[0], chosen[0]


def _labelled(split: Any, label: str) -> bool:
    if not len(split) or label not in split.column_names:
        return False
    first = split.select_columns([label])[0][label]
    return first is not None and first >= 0


def _split_error(name: str, splits: Any) -> CompressError:
    return CompressError(
        f"{name} has no train and test split, only {', '.join(splits)}",
        hint="a train split and a labelled test or validation split are needed",
        code="data-format",
    )


def _undecoded(split: Any, image: str) -> Any:
    import datasets

    return split.cast_column(image, datasets.Image(decode=False))


def _small(request: DataRequest, train: HubImages, test: HubImages, classes: list[str]) -> ImageData:
    """Decode all images into memory; they must all have one size."""
    size = train.raw(0)[0].size
    x_train, y_train = _stack(request.name, train, size)
    x_test, y_test = _stack(request.name, test, size)
    color = bool(max(x_train.shape[1], x_test.shape[1]) == 3)
    if color:
        x_train, x_test = (x if x.shape[1] == 3 else x.expand(-1, 3, -1, -1) for x in (x_train, x_test))
    return in_memory(
        request.name,
        Arrays(x_train, y_train, x_test, y_test),
        classes,
        augmentation=Augmentation(pad=size[1] // 8, flip=color),
        input_size=request.input_size,
    )


def _stack(name: str, images: HubImages, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return uint8 `[N, C, H, W]`, C 1 if every image is gray and else 3, and labels int64 `[N]`."""
    decoded, labels = [], []
    for index in range(len(images)):
        image, label = images.raw(index)
        if image.size != size:
            raise CompressError(
                f"image {index} of {name} is {image.size[0]}x{image.size[1]}, the first {size[0]}x{size[1]}",
                hint="save the images in folders (folder:DIR), where sizes may differ",
                code="data-format",
            )
        decoded.append(image)
        labels.append(label)
    mode = "L" if all(i.mode in ("1", "L") for i in decoded) else "RGB"
    array = np.stack([np.asarray(i.convert(mode)) for i in decoded])
    array = array[:, None] if mode == "L" else array.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(array)), torch.tensor(labels, dtype=torch.int64)
