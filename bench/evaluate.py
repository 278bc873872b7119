"""Accuracy of whatever a user names: a run folder or an exported file, on any data that fits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress import artifact
from compress.data import as_model_wants, load
from compress.errors import CompressError, near
from compress.training import EvalResult, TrainConfig, evaluate
from compress.training.device import resolve_device
from export import evaluate_onnx
from export.session import OnnxClassifier

DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class Evaluated:
    """Accuracy on a data set.

    Attributes:
        result: the shares, with the confusion counted.
        data: name of the data set.
        classes: names of the labels, in the order of the confusion's rows.
    """

    result: EvalResult
    data: str
    classes: tuple[str, ...]

    def to_json(self, *, confusion: bool) -> dict[str, Any]:
        """A JSON object; with `confusion`, its rows the true classes, its columns the predictions."""
        found = self.result
        out: dict[str, Any] = {
            "data": self.data,
            "top1": found.top1,
            "top5": found.top5,
            "loss": found.loss,
            "count": found.count,
        }
        if confusion:
            out |= {"classes": list(self.classes), "confusion": found.confusion}
        return out

    def lines(self, *, confusion: bool) -> list[str]:
        """The same for people: a line, and with `confusion` one a class that ends in its accuracy."""
        found = self.result
        text = f"top-1 {found.top1:.2%}  top-5 {found.top5:.2%}  loss {found.loss:.4f}"
        out = [f"{text}  on {found.count:,} images of {self.data}"]
        if confusion and found.confusion:
            wide = max(map(len, self.classes))
            out.append("rows: the true class; columns: the predicted one, in the same order")
            out += [
                f"{name:>{wide}}: " + " ".join(f"{n:>5}" for n in row) + f"   {row[i] / max(1, sum(row)):.1%}"
                for i, (name, row) in enumerate(zip(self.classes, found.confusion, strict=True))
            ]
        return out


def evaluate_any(
    what: str | Path,
    data: str | None = None,
    *,
    device: str = "cpu",
    batch_size: int = 256,
    workers: int = 2,
) -> Evaluated:
    """Evaluate a run's compact model or an ``.onnx`` file.

    The images are normalised as the model was trained, whatever the data set's own statistics are.

    Args:
        what: a run folder, its ``compact/`` folder, or an ONNX file.
        data: name of the data set; None takes the run's own.
        device: where a run's model is evaluated: ``auto``, ``cpu``, ``cuda`` or ``mps``; an ONNX file always
            is on the CPU.
        batch_size: images at once; an ONNX file of a fixed batch size has its own.
        workers: processes that decode images.

    Raises:
        CompressError: a missing or damaged file or device (MISSING), or data that does not fit the model.
    """
    path = Path(what)
    if path.suffix == ".onnx":
        return _onnx(path, data, workers)
    where = _device(device)
    info = artifact.compact_info(path)
    model = artifact.load(path).to(where)
    images = load(data or info.data, info.preprocess.input_size, workers=workers)
    _check_classes(len(info.classes), images.info.num_classes, images.info.name)
    batches = as_model_wants(images, info.preprocess).test_batches(batch_size=batch_size)
    result = evaluate(model, batches, where, info.model.num_classes, confusion=True)
    names = info.classes + tuple(str(i) for i in range(len(info.classes), info.model.num_classes))
    return Evaluated(result, images.info.name, names)


def _onnx(path: Path, data: str | None, workers: int) -> Evaluated:
    if data is None:
        raise CompressError("no data is given for an ONNX file", hint="give --data NAME", code="no-data")
    said = OnnxClassifier(path).metadata
    wanted = said.preprocess
    images = load(data, wanted.input_size if wanted else None, workers=workers)
    fitted = as_model_wants(images, wanted) if wanted else images
    return Evaluated(evaluate_onnx(path, fitted), images.info.name, said.classes or images.info.classes)


def _device(name: str) -> str:
    if name not in DEVICES:
        hint = f"{near(name, DEVICES)} known: {', '.join(DEVICES)}".strip()
        raise CompressError(f"unknown device {name!r}", hint=hint, code="unknown-device")
    return resolve_device(TrainConfig.model_validate({"device": name}))


def _check_classes(model: int, data: int, name: str) -> None:
    if model != data:
        raise CompressError(
            f"the model tells {model} classes apart, the data {name!r} has {data}",
            hint="give the data it was trained on",
            code="class-count",
        )
