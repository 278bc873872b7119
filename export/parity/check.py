"""The gate of every export: does the file compute what the network computes, on real images?"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compress.core.errors import CompressError, Exit
from compress.export.options import Precision
from compress.export.registry import Predictor
from compress.export.trust.manifest import ParityRecord

MAX_RELATIVE = 1e-4
"""Largest difference of a logit allowed to a float32 export, as a share of the largest logit."""

MIN_AGREEMENT = 0.99
"""Smallest share of images that must keep their most likely class in a float32 export."""


@dataclass(frozen=True)
class Limits:
    """What is demanded of a file.

    Attributes:
        relative: largest difference of a logit, as a share of the largest logit.
        agreement: smallest share of images that keep their most likely class.
        drop: largest loss of top-1 accuracy, a share of the images, beyond what chance explains.
    """

    relative: float
    agreement: float
    drop: float


LIMITS: dict[Precision, Limits] = {
    "fp32": Limits(MAX_RELATIVE, MIN_AGREEMENT, 0.002),
    "fp16": Limits(2e-2, 0.99, 0.005),
    "bf16": Limits(1e-1, 0.97, 0.01),
    "int8": Limits(3e-1, 0.95, 0.01),
}
"""What is demanded of each precision: 10, 8 and about 7 bits of a value are kept, through all layers."""

BATCH = 64
"""Images fed at once; the first image is also fed alone, so that a free batch size is really tried."""


def reference_logits(model: nn.Module, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the network's float32 logits `[N, classes]` for `[N, C, H, W]`, in eval mode on the CPU."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            parts = [model(torch.from_numpy(images[i : i + BATCH])) for i in range(0, len(images), BATCH)]
    finally:
        model.train(was_training)
    logits: NDArray[np.float32] = torch.cat(parts).float().numpy()
    return logits


def exported_logits(predictor: Predictor, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the file's logits `[N, classes]`: the first image alone, the others in batches."""
    cuts = [0, *range(1, len(images), BATCH), len(images)]
    parts = [predictor.logits(images[a:b]) for a, b in itertools.pairwise(cuts)]
    return np.concatenate(parts)


def compare_logits(
    reference: NDArray[np.float32],
    exported: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    max_relative: float = MAX_RELATIVE,
    min_agreement: float = MIN_AGREEMENT,
) -> ParityRecord:
    """Compare two sets of logits `[N, classes]` of the same images with labels `[N]`.

    A value that is not finite on either side fails the comparison; its differences are None.
    """
    if reference.shape != exported.shape:
        raise CompressError(
            f"the exported network returns {exported.shape}, the original {reference.shape}",
            code="parity-shape",
            exit=Exit.PARITY,
        )
    finite = bool(np.isfinite(reference).all() and np.isfinite(exported).all())
    max_abs = float(np.abs(reference.astype(np.float64) - exported).max()) if finite else None
    scale = float(np.abs(reference).max()) if finite else 0.0
    max_rel = None if max_abs is None else max_abs / max(scale, float(np.finfo(np.float32).tiny))
    agreement = float((reference.argmax(1) == exported.argmax(1)).mean())
    return ParityRecord(
        images=len(labels),
        max_abs=max_abs,
        max_rel=max_rel,
        agreement=agreement,
        top1_reference=float((reference.argmax(1) == labels).mean()),
        top1_exported=float((exported.argmax(1) == labels).mean()),
        limit_rel=max_relative,
        limit_agreement=min_agreement,
        passed=max_rel is not None and max_rel <= max_relative and agreement >= min_agreement,
    )


def check(
    model: nn.Module,
    predictor: Predictor,
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    max_relative: float = MAX_RELATIVE,
    min_agreement: float = MIN_AGREEMENT,
) -> ParityRecord:
    """Run both on the same images `[N, C, H, W]` and compare; the record says whether it passed."""
    if len(images) == 0:
        raise CompressError(
            "parity needs at least one test image; the data set gave none",
            hint="give a data set with test images (--data), or a larger --samples",
            code="no-samples",
        )
    return compare_logits(
        reference_logits(model, images),
        exported_logits(predictor, images),
        labels,
        max_relative=max_relative,
        min_agreement=min_agreement,
    )


def describe(record: ParityRecord) -> str:
    """Say in words what a comparison found and what was demanded."""
    if record.max_rel is None:
        return "an output is not finite"
    return (
        f"the largest difference is {record.max_rel:.2g} of the largest logit "
        f"(limit {record.limit_rel:.2g}), the same class in {record.agreement:.1%} of "
        f"{record.images} images (limit {record.limit_agreement:.1%})"
    )
