"""Accuracy and loss of a classifier over batches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compress.core.errors import CompressError
from compress.data.pixels import send


@dataclass(frozen=True)
class EvalResult:
    """Accuracy of a classifier on a data set.

    Attributes:
        top1: fraction of images whose highest output is the label.
        top5: fraction whose label is among the five highest outputs (1 with at most five classes).
        loss: mean cross-entropy, without label smoothing.
        count: number of images.
        confusion: `[classes, classes]` counts, rows are labels, columns predictions; None if not requested.
    """

    top1: float
    top5: float
    loss: float
    count: int
    confusion: list[list[int]] | None = None


def logits_of(outputs: Any) -> Tensor:
    """Return the class scores `[B, classes]` from a model's output: the output, or its first element.

    Raises:
        CompressError: ``model-output`` if it is neither a tensor nor a tuple or record whose first element is
            one.
    """
    if isinstance(outputs, Tensor):
        return outputs
    first = getattr(outputs, "logits", outputs[0] if isinstance(outputs, (tuple, list)) and outputs else None)
    if isinstance(first, Tensor):
        return first
    raise CompressError(
        f"the model's output is a {type(outputs).__name__}, not class scores",
        hint="use a classifier whose forward returns a tensor [batch, classes]",
        code="model-output",
    )


def check_outputs(logits: Tensor, num_classes: int) -> None:
    """Check that scores are `[B, num_classes]`.

    Raises:
        CompressError: ``model-output``, naming both shapes.
    """
    if logits.ndim != 2 or logits.shape[1] != num_classes:
        raise CompressError(
            f"the model's output is {list(logits.shape)}, the data have {num_classes} classes",
            hint=f"use --num-classes {num_classes}",
            code="model-output",
        )


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    device: str | torch.device,
    num_classes: int,
    *,
    confusion: bool = False,
    channels_last: bool = False,
    autocast: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
    reduce: Callable[[Tensor], Tensor] | None = None,
) -> EvalResult:
    """Return accuracy and loss of `model`, whose mode (training or evaluation) is restored.

    Args:
        model: a classifier on `device`.
        batches: images `[B, C, H, W]` and labels `[B]`.
        device: device of the computation.
        num_classes: width of the output.
        confusion: also count every pair of label and prediction.
        channels_last: pass the images in NHWC memory layout.
        autocast: returns the context of each forward pass.
        reduce: sums a tensor over processes, each of which evaluates a share of the images.

    Raises:
        CompressError: ``model-output`` for an output of another shape, ``no-data`` if there are no images.
    """
    device = torch.device(device)
    wide = torch.float32 if device.type == "mps" else torch.float64
    sums = torch.zeros(4, dtype=wide, device=device)
    matrix = torch.zeros(num_classes * num_classes if confusion else 0, dtype=torch.int64, device=device)
    was_training = model.training
    model.eval()
    try:
        for inputs, targets in batches:
            x, y = to_device(inputs, targets, device, channels_last=channels_last)
            with autocast():
                logits = logits_of(model(x)).float()
            check_outputs(logits, num_classes)
            sums += _score(logits, y, num_classes).to(wide)
            if confusion:
                matrix += torch.bincount(y * num_classes + logits.argmax(1), minlength=num_classes**2)
    finally:
        model.train(was_training)
    if reduce is not None:
        sums, matrix = reduce(sums), reduce(matrix) if confusion else matrix
    return _result(sums.tolist(), matrix.view(num_classes, -1).tolist() if confusion else None)


def to_device(
    inputs: Tensor, targets: Tensor, device: torch.device, *, channels_last: bool
) -> tuple[Tensor, Tensor]:
    """Move a batch to a device, without waiting for a copy to a GPU, in the requested memory layout."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return send(inputs, device).contiguous(memory_format=layout), send(targets, device)


def _score(logits: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Return sums over a batch: loss, top-1 hits, top-5 hits, images."""
    five = logits.topk(min(5, num_classes), dim=1).indices
    return torch.stack(
        [
            F.cross_entropy(logits, targets, reduction="sum"),
            (logits.argmax(1) == targets).sum(),
            (five == targets[:, None]).any(1).sum(),
            torch.full_like(targets[:1], targets.shape[0]).sum(),
        ]
    )


def _result(sums: list[float], confusion: list[list[int]] | None) -> EvalResult:
    loss, first, five, count = sums
    if not count:
        raise CompressError("there are no images to evaluate", hint="check the data set", code="no-data")
    return EvalResult(first / count, five / count, loss / count, int(count), confusion)
