"""Compare the logits of a network and of an exported file on the same real images."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compress.core.errors import CompressError, Exit
from compress.export.options import Precision
from compress.export.trust.manifest import ParityRecord
from compress.export.types import Predictor

if TYPE_CHECKING:
    from torch import nn

MAX_RELATIVE = 1e-4
"""Largest allowed difference of a logit of a float32 export, as a share of the largest logit."""

MIN_AGREEMENT = 0.99
"""Smallest allowed share of images whose most likely class is the same, for a float32 export."""


@dataclass(frozen=True)
class ParityLimits:
    """Limits that a file must meet.

    Attributes:
        relative: largest difference of a logit, as a share of the largest logit.
        agreement: smallest share of images whose most likely class is the same.
        drop: largest loss of top-1 accuracy beyond what chance explains, as a share of the images.
    """

    relative: float
    agreement: float
    drop: float


LIMITS: dict[Precision, ParityLimits] = {
    "fp32": ParityLimits(MAX_RELATIVE, MIN_AGREEMENT, 0.002),
    "fp16": ParityLimits(2e-2, 0.99, 0.005),
    "bf16": ParityLimits(1e-1, 0.97, 0.01),
    "int8": ParityLimits(3e-1, 0.95, 0.01),
}
"""Limits of each precision; FP16, BF16 and INT8 keep 10, 8 and about 7 bits of each value."""

BATCH = 64
"""Images per batch. The first image is also run alone, which tests a free batch size."""


def reference_logits(model: nn.Module, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the network's float32 logits `[N, classes]` for `[N, C, H, W]`, in eval mode on the CPU."""
    import torch

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

    Raises:
        CompressError: the two have different shapes (exit PARITY).
    """
    if reference.shape != exported.shape:
        raise CompressError(
            f"the exported file returns logits of shape {list(exported.shape)}, "
            f"the network {list(reference.shape)}",
            hint="the exporter changed the network's output; try another --opset, or report it",
            code="parity-shape",
            exit=Exit.PARITY,
        )
    is_finite = bool(np.isfinite(reference).all() and np.isfinite(exported).all())
    max_abs = float(np.abs(reference.astype(np.float64) - exported).max()) if is_finite else None
    scale = float(np.abs(reference).max()) if is_finite else 0.0
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


def require_images(images: NDArray[np.float32]) -> None:
    """Refuse to compare on no images (``no-samples``, exit USAGE)."""
    if len(images) == 0:
        raise CompressError(
            "the parity check needs at least one test image, and the data has none",
            hint="give data with test images (--data)",
            code="no-samples",
        )


def check_parity(
    model: nn.Module,
    predictor: Predictor,
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    max_relative: float = MAX_RELATIVE,
    min_agreement: float = MIN_AGREEMENT,
) -> ParityRecord:
    """Run the network and the file on the same images `[N, C, H, W]` and compare their logits.

    Raises:
        CompressError: there are no images (exit USAGE).
    """
    require_images(images)
    return compare_logits(
        reference_logits(model, images),
        exported_logits(predictor, images),
        labels,
        max_relative=max_relative,
        min_agreement=min_agreement,
    )


def describe_parity(record: ParityRecord) -> str:
    """Return the results of a comparison with its limits, in words."""
    if record.max_rel is None:
        return "an output is not finite"
    return (
        f"the largest difference is {record.max_rel:.2g} of the largest logit "
        f"(limit {record.limit_rel:.2g}), the same class in {record.agreement:.1%} of "
        f"{record.images} images (limit {record.limit_agreement:.1%})"
    )
