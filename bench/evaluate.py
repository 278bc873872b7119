"""Accuracy of whatever a user names: a run folder or an exported file, on any data that fits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compress import artifact
from compress.data import as_model_wants, load
from compress.errors import CompressError, Exit
from compress.training import EvalResult, evaluate
from export import evaluate_onnx
from export.session import OnnxClassifier

if TYPE_CHECKING:
    from compress.spec import Preprocess


def evaluate_any(
    what: str | Path, data: str | None = None, *, device: str = "cpu", batch_size: int = 256, workers: int = 2
) -> tuple[EvalResult, str]:
    """Evaluate a run's compact model or an ``.onnx`` file; return the result and the data set's name.

    The images are normalised as the model was trained, whatever the data set's own statistics are.

    Args:
        what: a run folder, its ``compact/`` folder, or an ONNX file. data: None takes the run's own.
        device: where a run's model is evaluated; an ONNX file always is on the CPU.

    Raises:
        CompressError: a missing or damaged file, or data that does not fit the model.
    """
    path = Path(what)
    if path.suffix == ".onnx":
        return _onnx(path, data, workers)
    info = artifact.compact_info(path)
    model = artifact.load(path).to(device)
    images = load(data or info.data, info.preprocess.input_size, workers=workers)
    _check_classes(len(info.classes), images.info.num_classes, images.info.name)
    fitted = as_model_wants(images, info.preprocess)
    batches = fitted.test_batches(batch_size=batch_size)
    return evaluate(model, batches, device, info.model.num_classes, confusion=True), images.info.name


def _onnx(path: Path, data: str | None, workers: int) -> tuple[EvalResult, str]:
    if data is None:
        raise CompressError("no data is given for an ONNX file", hint="give --data NAME", code="no-data")
    if not path.is_file():
        raise CompressError(f"there is no file {str(path)!r}", hint="`compress export RUN` writes one",
                            code="missing-file", exit=Exit.MISSING)
    said: Preprocess | None = OnnxClassifier(path).metadata.preprocess
    images = load(data, said.input_size if said else None, workers=workers)
    fitted = as_model_wants(images, said) if said else images
    return evaluate_onnx(path, fitted), images.info.name


def _check_classes(model: int, data: int, name: str) -> None:
    if model != data:
        raise CompressError(
            f"the model tells {model} classes apart, the data {name!r} has {data}",
            hint="give the data it was trained on", code="class-count",
        )
