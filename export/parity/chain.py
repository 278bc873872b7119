"""The parity chain: each step from the trained network to the exported file, compared with the one before.

    masked dense = sliced, trained = compact      compared when the run was made (`verify.json`)
    compact = ONNX in float32 = ONNX in lower precision = file for the runtime

All steps run on the same real test images. The first comparison that fails names its step and, for a loss of
precision, the layers that lose most. A step that this machine cannot run is "not run", never "passed".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from compress.core.spec import Record
from compress.export.options import Precision
from compress.export.parity.check import (
    LIMITS,
    ParityLimits,
    compare_logits,
    describe_parity,
    exported_logits,
    reference_logits,
    require_images,
)
from compress.export.precision.deviation import LayerDeviation
from compress.export.trust.manifest import ParityRecord
from compress.export.types import Predictor

if TYPE_CHECKING:
    from torch import nn

COMPACT = "compact"
"""Name of the first step: the compact network in torch."""


class ParityLink(Record):
    """One step compared with an earlier one.

    Attributes:
        name: the step.
        against: the step it is compared with.
        runner: what computed it.
        status: ``passed``, ``failed`` or ``not run``.
        reason: why it failed or was not run.
        images: number of images compared.
        max_abs, max_rel: largest difference of a logit, and as a share of the largest logit.
        agreement: share of the images with the same most likely class.
        top1_against, top1: accuracy of the earlier step and of this one, 0 to 1.
        limit_rel, limit_agreement, limit_drop: the limits; see `ParityLimits`.
        worst: after a failure, the layers that lose most; see `LayerDeviation`.
    """

    name: str
    against: str
    runner: str
    status: Literal["passed", "failed", "not run"]
    reason: str | None = None
    images: int | None = None
    max_abs: float | None = None
    max_rel: float | None = None
    agreement: float | None = None
    top1_against: float | None = None
    top1: float | None = None
    limit_rel: float | None = None
    limit_agreement: float | None = None
    limit_drop: float | None = None
    worst: tuple[dict[str, Any], ...] = ()


@dataclass
class ParityChain:
    """The comparisons so far; created by `start`.

    Attributes:
        images: float32 `[N, C, H, W]`, preprocessed test images.
        labels: int64 `[N]`.
        reference: float32 `[N, classes]`, logits of the compact network.
        precision: which `LIMITS` apply to steps in lower precision.
        max_relative, min_agreement: limits for every step, in place of those of the precision.
        links: the comparisons, in order.
        last_step: name of the last step that was run.
        last_logits: its logits.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    reference: NDArray[np.float32]
    precision: Precision
    max_relative: float | None
    min_agreement: float | None
    links: list[ParityLink]
    last_step: str
    last_logits: NDArray[np.float32]

    @classmethod
    def start(
        cls,
        model: nn.Module,
        verified: Mapping[str, Any],
        images: NDArray[np.float32],
        labels: NDArray[np.int64],
        precision: Precision = "fp32",
        *,
        max_relative: float | None = None,
        min_agreement: float | None = None,
    ) -> ParityChain:
        """Return a chain whose first step is the compact network.

        Args:
            model: the compact network.
            verified: the content of the run's `verify.json`, from which the comparisons with the masked dense
                and the trained network are taken; empty for a network of which nothing was cut.
            images, labels, precision, max_relative, min_agreement: see the attributes.

        Raises:
            CompressError: there are no images (exit USAGE).
        """
        require_images(images)
        reference = reference_logits(model, images)
        top1 = float((reference.argmax(1) == labels).mean())
        steps = (
            ("sliced_vs_masked_dense", "sliced", "masked dense"),
            ("compact_vs_trained", COMPACT, "trained"),
        )
        links = [
            _link_of_run(verified[key], name, against, top1)
            for key, name, against in steps
            if verified.get(key)
        ]
        return cls(
            images, labels, reference, precision, max_relative, min_agreement, links, COMPACT, reference
        )

    def branch(self, precision: Precision | None = None) -> ParityChain:
        """Return a copy that continues from the same step, optionally with another precision's limits."""
        return replace(self, links=list(self.links), precision=precision or self.precision)

    def add(
        self,
        name: str,
        predictor: Predictor,
        runner: str,
        *,
        precision: Precision | None = None,
        deviations: Callable[[], list[LayerDeviation]] | None = None,
    ) -> ParityLink:
        """Run a step and compare it with the last one that was run.

        Args:
            name: the step.
            predictor: computes it.
            runner: what the predictor runs on, for the record.
            precision: whose limits apply; None for the chain's.
            deviations: called after a failure, for the layers that lose most.
        """
        logits = exported_logits(predictor, self.images)
        limits = self._limits(precision or self.precision)
        record = compare_logits(
            self.last_logits,
            logits,
            self.labels,
            max_relative=limits.relative,
            min_agreement=limits.agreement,
        )
        drop = _significant_drop(self.last_logits, logits, self.labels)
        reason = None if record.passed else describe_parity(record)
        if record.passed and drop > limits.drop:
            reason = (
                f"top-1 falls from {record.top1_reference:.2%} to {record.top1_exported:.2%} "
                f"(limit {limits.drop:.2%} beyond chance)"
            )
        worst = deviations()[:3] if reason is not None and deviations is not None else []
        self.links.append(
            ParityLink(
                name=name,
                against=self.last_step,
                runner=runner,
                status="passed" if reason is None else "failed",
                reason=reason,
                images=record.images,
                max_abs=record.max_abs,
                max_rel=record.max_rel,
                agreement=record.agreement,
                top1_against=record.top1_reference,
                top1=record.top1_exported,
                limit_rel=limits.relative,
                limit_agreement=limits.agreement,
                limit_drop=limits.drop,
                worst=tuple(deviation.to_json() for deviation in worst),
            )
        )
        self.last_step, self.last_logits = name, logits
        return self.links[-1]

    def add_not_run(self, name: str, runner: str, reason: str) -> ParityLink:
        """Record a step that cannot be run on this machine, with the reason."""
        self.links.append(
            ParityLink(name=name, against=self.last_step, runner=runner, status="not run", reason=reason)
        )
        return self.links[-1]

    @property
    def failed_link(self) -> ParityLink | None:
        """The first comparison that failed, or None."""
        return next((link for link in self.links if link.status == "failed"), None)

    def compare_with_compact(self) -> ParityRecord:
        """Compare the last step that was run with the compact network."""
        limits = self._limits(self.precision)
        return compare_logits(
            self.reference,
            self.last_logits,
            self.labels,
            max_relative=limits.relative,
            min_agreement=limits.agreement,
        )

    def to_json(self) -> list[dict[str, Any]]:
        """Return the comparisons as JSON objects."""
        return [link.model_dump(mode="json") for link in self.links]

    def _limits(self, precision: Precision) -> ParityLimits:
        limits = LIMITS[precision]
        return ParityLimits(
            limits.relative if self.max_relative is None else self.max_relative,
            limits.agreement if self.min_agreement is None else self.min_agreement,
            limits.drop,
        )


def _link_of_run(report: Mapping[str, Any], name: str, against: str, top1: float) -> ParityLink:
    """Return a comparison that was made when the compact network was saved."""
    return ParityLink(
        name=name,
        against=against,
        runner="torch, when the run was made",
        status="passed" if report["passed"] else "failed",
        reason=None if report["passed"] else "the difference exceeds the tolerance",
        images=report["samples"],
        max_abs=report["max_abs"],
        max_rel=report["max_rel"],
        top1=top1 if name == COMPACT else None,  # a sliced network may have been trained since
        limit_rel=report["tolerance"],
    )


def _significant_drop(
    before: NDArray[np.float32], after: NDArray[np.float32], labels: NDArray[np.int64]
) -> float:
    """Return the loss of top-1 accuracy beyond two standard errors.

    The error is that of the number of images that are right in one of the two and wrong in the other.
    """
    right_before, right_after = before.argmax(1) == labels, after.argmax(1) == labels
    changed = int((right_before != right_after).sum())
    return float((right_before.sum() - right_after.sum() - 2 * np.sqrt(changed)) / len(labels))
