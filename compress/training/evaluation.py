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
    """What a classifier does on a data set.

    Attributes:
        top1: fraction of images whose highest output is the label.
        top5: fraction whose label is among the five highest (all, where there are fewer classes).
        loss: mean cross-entropy, without label smoothing.
        count: images.
        confusion: `[classes, classes]` counts, rows the labels, columns the predictions; None if not asked.
    """

    top1: float
    top5: float
    loss: float
    count: int
    confusion: list[list[int]] | None = None


def logits_of(outputs: Any) -> Tensor:
    """Return the class scores `[B, classes]` from a model's output: itself, or its first part.

    Raises:
        CompressError: ``model-output`` if it is neither a tensor nor a tuple or record that begins with one.
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
    """Refuse scores that are not `[B, num_classes]`.

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
    """Return accuracy and loss of `model`, which keeps its mode (training or evaluation).

    Args:
        model: a classifier on `device`.
        batches: images `[B, C, H, W]` and labels `[B]`.
        device: where to compute.
        num_classes: width of the output.
        confusion: count every pair of label and prediction too.
        channels_last: feed the images in NHWC memory order.
        autocast: makes the context of each forward pass.
        reduce: sums a tensor over processes, each of which evaluates a share of the images.

    Raises:
        CompressError: ``model-output`` for an output of another shape, ``no-data`` for no images.
    """
    device = torch.device(device)
    wide = torch.float32 if device.type == "mps" else torch.float64
    sums = torch.zeros(4, dtype=wide, device=device)
    table = torch.zeros(num_classes * num_classes if confusion else 0, dtype=torch.int64, device=device)
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
                table += torch.bincount(y * num_classes + logits.argmax(1), minlength=num_classes**2)
    finally:
        model.train(was_training)
    if reduce is not None:
        sums, table = reduce(sums), reduce(table) if confusion else table
    return _result(sums.tolist(), table.view(num_classes, -1).tolist() if confusion else None)


def to_device(
    inputs: Tensor, targets: Tensor, device: torch.device, *, channels_last: bool
) -> tuple[Tensor, Tensor]:
    """Move a batch, without waiting for a copy to a GPU, and lay the images out there."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return send(inputs, device).contiguous(memory_format=layout), send(targets, device)


def _score(logits: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Sums over a batch: loss, hits among the first, hits among the first five, images."""
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
