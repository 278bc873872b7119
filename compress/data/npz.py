"""``npz:FILE``: one NumPy archive of uint8 images and integer labels.

Keys: ``x_train, y_train, x_test, y_test``, or MedMNIST's ``train_images, train_labels, test_images,
test_labels`` (its ``val_`` pair is the test set if there is no ``test_`` pair). ``classes``, an array of
strings, may name the labels. Nothing in the file is unpickled.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from compress.core.errors import CompressError, Exit
from compress.data.augment import Augmentation
from compress.data.base import ImageData
from compress.data.memory import Arrays, in_memory
from compress.data.registry import DATASETS, DataRequest

_KEYS = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("train_images", "train_labels", "val_images", "val_labels"),
)
_log = logging.getLogger(__name__)
_PAD_DIVISOR = 8  # the usual 4 pixels at 32

Array = NDArray[Any]


@DATASETS.register("npz", argument="FILE")
def npz(request: DataRequest) -> ImageData:
    """Load an archive; in training, color images are cropped and flipped, gray images only cropped."""
    path = Path(request.argument).expanduser().absolute()
    keys, arrays = _read(path)
    x_train, y_train, x_test, y_test = (arrays[k] for k in keys)
    images = [_images(path, keys[0], x_train), _images(path, keys[2], x_test)]
    if images[0].shape[1:] != images[1].shape[1:]:
        raise _format_error(path, f"{keys[0]} is {list(x_train.shape)} but {keys[2]} is {list(x_test.shape)}")
    labels = [_labels(path, keys[1], y_train, len(x_train)), _labels(path, keys[3], y_test, len(x_test))]
    classes = _classes(path, keys, labels, arrays.get("classes"))
    _, channels, height, _ = images[0].shape
    tensors = [torch.from_numpy(a) for pair in zip(images, labels, strict=True) for a in pair]
    return in_memory(
        f"npz:{path}",
        Arrays(*tensors),
        classes,
        augmentation=Augmentation(pad=height // _PAD_DIVISOR, flip=channels == 3),
        input_size=request.input_size,
    )


def _read(path: Path) -> tuple[tuple[str, ...], dict[str, Array]]:
    if not path.is_file():
        raise CompressError(
            f"data file {str(path)!r} does not exist",
            hint="check the path; if the file was moved, give its new place with --data npz:FILE",
            code="missing-file",
            exit=Exit.MISSING,
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            present = set(archive.files)
            keys = next((k for k in _KEYS if present.issuperset(k)), None)
            if keys is not None:
                names = [*keys, "classes"] if "classes" in present else [*keys]
                return keys, {k: archive[k] for k in names}
    except Exception as error:  # NumPy raises errors of many types on a damaged file
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CompressError(
            f"{path} is truncated or not an .npz archive of plain arrays: {reason}",
            hint="write it with numpy.savez",
            code="data-unreadable",
            exit=Exit.MISSING,
        ) from error
    raise _format_error(path, f"it has the keys {', '.join(sorted(present)) or 'none'}")


def _images(path: Path, key: str, array: Array) -> NDArray[np.uint8]:
    """Return `array` as uint8 `[N, C, H, W]`, C 1 or 3."""
    if array.dtype != np.uint8:
        raise _format_error(path, f"{key} is {array.dtype}, not uint8", "store pixels as uint8, 0 to 255")
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    elif array.ndim != 4 or array.shape[1] not in (1, 3):
        raise _format_error(path, f"{key} is {list(array.shape)}")
    if 0 in array.shape:
        raise _format_error(path, f"{key} is empty: {list(array.shape)}")
    return np.ascontiguousarray(array)


def _labels(path: Path, key: str, array: Array, count: int) -> NDArray[np.int64]:
    """Return `array` as int64 `[count]`."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or len(array) != count:
        raise _format_error(
            path,
            f"{key} is {list(array.shape)} for {count} images",
            "give one label for each image, [N] or [N, 1]",
        )
    if array.dtype.kind not in "iu":
        raise _format_error(path, f"{key} is {array.dtype}, not an integer type", "number the classes from 0")
    if array.min() < 0:
        raise _format_error(path, f"{key} has the label {array.min()}", "number the classes from 0")
    return array.astype(np.int64)


def _classes(
    path: Path, keys: tuple[str, ...], labels: list[NDArray[np.int64]], names: Array | None
) -> list[str]:
    top_train, top_test = (int(part.max()) for part in labels)
    if names is not None:
        class_names = [str(n) for n in names.reshape(-1)]
        if max(top_train, top_test) >= len(class_names):
            raise _format_error(
                path,
                f"a label is {max(top_train, top_test)}, but 'classes' has {len(class_names)} names",
                "give a name for every label, from 0",
            )
        return class_names
    if top_test > top_train:
        raise _format_error(
            path,
            f"{keys[3]} has the label {top_test}, but the largest in {keys[1]} is {top_train}",
            "both parts must have the same classes, numbered from 0",
        )
    absent = sorted(set(range(top_train + 1)) - set(np.unique(labels[0]).tolist()))
    if absent:
        _log.warning("%s: no training image has the label %s", path, ", ".join(map(str, absent[:10])))
    return [str(c) for c in range(top_train + 1)]


def _format_error(path: Path, what: str, hint: str = "") -> CompressError:
    form = (
        "an archive has x_train, y_train, x_test, y_test (or MedMNIST's names): uint8 images [N, H, W],"
        " [N, H, W, C] or [N, C, H, W] with 1 or 3 channels, and integer labels [N]"
    )
    return CompressError(f"{path}: {what}", hint=hint or form, code="data-format")
