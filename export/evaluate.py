"""Evaluate an exported file on a data set in the runtime it will be deployed with."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from compress.core.errors import CompressError
from compress.export.onnx.session import OnnxClassifier
from compress.export.trust.onnx_metadata import OnnxMetadata

if TYPE_CHECKING:
    from compress.data import ImageData
    from compress.training.evaluation import EvalResult

BATCH = 64
"""Images per batch if the file leaves the batch size free."""

_log = logging.getLogger(__name__)


def evaluate_onnx(
    path: str | Path, data: ImageData, batch_size: int | None = None, *, threads: int | None = None
) -> EvalResult:
    """Evaluate an ONNX file on the test images of `data`, in ONNX Runtime on the CPU.

    The result includes the confusion matrix.

    Args:
        path: the ONNX file.
        data: data set whose test images are used, preprocessed as `data.info.preprocess` says.
        batch_size: images per batch; None for the file's fixed size, or 64.
        threads: intra-op threads; None for ONNX Runtime's default.

    Raises:
        CompressError: the file is missing or damaged (exit MISSING), or its classes or its input shape
            do not fit the data (exit USAGE).
    """
    model = OnnxClassifier(Path(path), threads=threads)
    check_data_fits(ModelInterface(model.path, model.image_shape, model.num_classes, model.metadata), data)
    return evaluate_logits(model, data, batch_size or model.batch or BATCH)


class LogitsModel(Protocol):
    """Turns images into logits: a predictor of a format, or a runner of a back end."""

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 `[N, classes]` for float32 `[N, C, H, W]`."""


def evaluate_logits(model: LogitsModel, data: ImageData, batch_size: int) -> EvalResult:
    """Evaluate a predictor or a runner on the test images of `data`, with the confusion matrix.

    Args:
        model: a runner of a back end, or a loaded file.
        data: data set whose test images are used, preprocessed as `data.info.preprocess` says.
        batch_size: images per batch.
    """
    counts = _ClassCounts(data.info.num_classes)
    for images, labels in data.test_batches(batch_size=batch_size):
        counts.add(model.logits(images.numpy()), labels.numpy())
    return counts.result()


@dataclass(frozen=True)
class ModelInterface:
    """Inputs and outputs of a loaded file.

    Attributes:
        path: the file.
        image_shape: `(channels, height, width)`; a name for a free size.
        num_classes: None if it is free.
        metadata: preprocessing and class names of the file.
    """

    path: Path
    image_shape: tuple[int | str, ...]
    num_classes: int | None
    metadata: OnnxMetadata


def check_data_fits(model: ModelInterface, data: ImageData) -> None:
    """Refuse data whose image size or number of classes differs from the file's; warn about names.

    Raises:
        CompressError: ``input-shape`` or ``class-count`` (exit USAGE).
    """
    from compress.data import check_class_count

    shape, expected = data.info.preprocess.input_size, model.image_shape
    if any(isinstance(size, int) and size != given for size, given in zip(expected, shape, strict=True)):
        raise CompressError(
            f"{str(model.path)!r} takes images of {list(expected)}, "
            f"the data {data.info.name!r} has {list(shape)}",
            hint="give the data it was trained on, or another image size with --input-size",
            code="input-shape",
            details={"model": list(expected), "data": list(shape)},
        )
    check_class_count(
        model.num_classes, data.info, model=repr(str(model.path)), hint="give the data it was trained on"
    )
    metadata, preprocess = model.metadata, data.info.preprocess
    if metadata.preprocess is not None and metadata.preprocess != preprocess:
        _log.warning(
            "%s expects preprocessing %s, the data has %s", model.path, metadata.preprocess, preprocess
        )
    if metadata.classes is not None and metadata.classes != data.info.classes:
        _log.warning("the class names of %s differ from those of the data %r", model.path, data.info.name)


class _ClassCounts:
    """Confusion matrix, loss and top-5 over batches; in float64, so that the batch size does not matter."""

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
        top5 = np.argpartition(-values, min(5, values.shape[1]) - 1, axis=1)[:, :5]
        self._top5 += int((top5 == labels[:, None]).any(1).sum())
        np.add.at(self._confusion, (labels, values.argmax(1)), 1)

    def result(self) -> EvalResult:
        """Return the accuracies.

        Raises:
            CompressError: there were no images (exit USAGE).
        """
        from compress.training.evaluation import EvalResult

        count = int(self._confusion.sum())
        if count == 0:
            raise CompressError(
                "the data has no test images to evaluate on",
                hint="give data with test images (--data)",
                code="no-samples",
            )
        correct = int(np.trace(self._confusion))
        return EvalResult(
            correct / count, self._top5 / count, self._loss / count, count, self._confusion.tolist()
        )
