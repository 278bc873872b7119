"""Accuracy of an exported file on a data set, by the runtime it will be deployed with."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from compress.core.errors import CompressError
from compress.export.session import Metadata, OnnxClassifier
from compress.training.evaluation import EvalResult

if TYPE_CHECKING:
    from compress.data import ImageData

BATCH = 64
"""Images fed at once where the file leaves the batch size free."""

_log = logging.getLogger(__name__)


def evaluate_onnx(
    path: str | Path, data: ImageData, batch_size: int | None = None, *, threads: int | None = None
) -> EvalResult:
    """Run every test image of `data` through an ONNX file in ONNX Runtime on the CPU.

    The result counts the confusion too.

    Args:
        path: the file.
        data: its test images, already preprocessed as `data.info.preprocess` says.
        batch_size: images at once; None takes the file's fixed size, or 64.
        threads: intra-op threads; None leaves ONNX Runtime's default.

    Raises:
        CompressError: the file is missing or damaged (exit MISSING), or its classes or its input shape
            do not fit the data (exit USAGE).
    """
    model = OnnxClassifier(Path(path), threads=threads)
    check_fits(Interface(model.path, model.image_shape, model.num_classes, model.metadata), data)
    return evaluate_logits(model, data, batch_size or model.batch or BATCH)


def evaluate_logits(model: Logits, data: ImageData, batch_size: int) -> EvalResult:
    """Run every test image of `data` through whatever gives logits; the confusion is counted too.

    Args:
        model: a runner of a back end, or a loaded file.
        data: its test images, already preprocessed as `data.info.preprocess` says.
        batch_size: images at once.
    """
    tally = _Tally(data.info.num_classes)
    for images, labels in data.test_batches(batch_size=batch_size):
        tally.add(model.logits(images.numpy()), labels.numpy())
    return tally.result()


class Logits(Protocol):
    """What turns images into logits: a predictor of a format, or a runner of a back end."""

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 `[N, classes]` for float32 `[N, C, H, W]`."""


@dataclass(frozen=True)
class Interface:
    """What a network takes and gives: the path it was loaded from, its shapes, what they mean.

    Attributes:
        image_shape: `(channels, height, width)`; a name where a size is free.
        num_classes: None where it is free.
    """

    path: Path
    image_shape: tuple[int | str, ...]
    num_classes: int | None
    metadata: Metadata


def check_fits(model: Interface, data: ImageData) -> None:
    """Refuse data whose images or classes are not those of the file; warn where the meaning differs."""
    shape, wanted = data.info.preprocess.input_size, model.image_shape
    if any(isinstance(size, int) and size != given for size, given in zip(wanted, shape, strict=True)):
        raise CompressError(
            f"{str(model.path)!r} takes images of {list(wanted)}, "
            f"the data {data.info.name!r} has {list(shape)}",
            hint="give the data it was trained on, or the size with --input-size",
            code="input-shape",
            details={"model": list(wanted), "data": list(shape)},
        )
    if model.num_classes not in (None, data.info.num_classes):
        raise CompressError(
            f"{str(model.path)!r} has {model.num_classes} classes, the data {data.info.name!r} has "
            f"{data.info.num_classes}",
            hint="give the data it was trained on",
            code="class-count",
            details={"model": model.num_classes, "data": data.info.num_classes},
        )
    said = model.metadata
    if said.preprocess is not None and said.preprocess != data.info.preprocess:
        _log.warning("the file expects %s, the data gives %s", said.preprocess, data.info.preprocess)
    if said.classes is not None and said.classes != data.info.classes:
        _log.warning("the classes of the file and of the data %r have other names", data.info.name)


class _Tally:
    """Counts over batches; float64 so that the order of the batches does not matter."""

    def __init__(self, classes: int) -> None:
        self._confusion = np.zeros((classes, classes), dtype=np.int64)
        self._loss = 0.0
        self._top5 = 0

    def add(self, logits: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        """Count logits `[B, classes]` against labels `[B]`."""
        values = logits.astype(np.float64)
        rows = np.arange(len(labels))
        shifted = values - values.max(1, keepdims=True)
        self._loss += float((np.log(np.exp(shifted).sum(1)) - shifted[rows, labels]).sum())
        five = np.argpartition(-values, min(5, values.shape[1]) - 1, axis=1)[:, :5]
        self._top5 += int((five == labels[:, None]).any(1).sum())
        np.add.at(self._confusion, (labels, values.argmax(1)), 1)

    def result(self) -> EvalResult:
        """Return the shares; refuse a data set without test images."""
        count = int(self._confusion.sum())
        if count == 0:
            raise CompressError("the data has no test images to evaluate on", code="no-samples")
        correct = int(np.trace(self._confusion))
        return EvalResult(
            correct / count, self._top5 / count, self._loss / count, count, self._confusion.tolist()
        )
