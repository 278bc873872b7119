"""From the trained network to the engine, link by link: where does the result change?

trained = sliced = ONNX in float32 = ONNX reduced = the file for the runtime. Each link compares a step with
the one before on the same real test images. The first that breaks is named, and for a loss of precision the
layer that loses most. A step that cannot be run on this machine is "not run", never "passed".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from compress.core.errors import CompressError
from compress.core.spec import Record
from compress.export.options import Precision
from compress.export.parity.check import (
    LIMITS,
    Limits,
    compare_logits,
    describe,
    exported_logits,
    reference_logits,
)
from compress.export.precision.losses import LayerLoss
from compress.export.registry import Predictor
from compress.export.trust.manifest import ParityRecord

COMPACT = "compact"
"""Name of the first step: the compact network in torch."""


class Link(Record):
    """One step compared with the one before it.

    Attributes:
        name: the step. against: what it is compared with.
        runner: what computed it.
        status: ``not run`` comes with a reason.
        reason: why it was not run, or what broke.
        images: how many were compared.
        max_abs, max_rel: largest difference of a logit, absolute and as a share of the largest logit.
        agreement: share of the images with the same most likely class.
        top1_against, top1: accuracy of the two on these images, 0 to 1.
        limit_rel, limit_agreement, limit_drop: what was demanded, see `compress.export.parity.check.Limits`.
        worst: for a loss of precision, the layers that lose most.
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
class Chain:
    """The links so far, and what the last step that was run answered.

    Attributes:
        images: float32 `[N, C, H, W]`, preprocessed test images. labels: int64 `[N]`.
        precision: which limits hold for reduced steps.
        max_relative, min_agreement: the user's own limits for every link; None takes the precision's.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    precision: Precision = "fp32"
    max_relative: float | None = None
    min_agreement: float | None = None
    links: list[Link] = field(default_factory=list)
    _first: NDArray[np.float32] | None = None
    _last: tuple[str, NDArray[np.float32]] | None = None

    def start(self, model: nn.Module, verified: Mapping[str, Any]) -> None:
        """Take the compact network as the first step, and from its `verify.json` what it was cut from.

        A network of which nothing was cut begins the chain itself.
        """
        self._first = reference_logits(model, self.images)
        self._last = (COMPACT, self._first)
        top1 = float((self._first.argmax(1) == self.labels).mean())
        steps = (
            ("sliced_vs_masked_dense", "sliced", "masked dense"),
            ("compact_vs_trained", COMPACT, "trained"),
        )
        self.links += [
            _verified(verified[key], name, against, top1) for key, name, against in steps if verified.get(key)
        ]

    def add(
        self,
        name: str,
        predictor: Predictor,
        runner: str,
        *,
        precision: Precision | None = None,
        losses: Callable[[], list[LayerLoss]] | None = None,
    ) -> Link:
        """Run a step and compare it with the last one that was run.

        Args:
            name: the step. predictor: what it is. runner: what computes it.
            precision: whose limits hold; None takes the chain's.
            losses: called if the link breaks, for the layers that lose most.
        """
        assert self._last is not None
        against, reference = self._last
        logits = exported_logits(predictor, self.images)
        limits = self._limits(precision or self.precision)
        record = compare_logits(
            reference, logits, self.labels, max_relative=limits.relative, min_agreement=limits.agreement
        )
        drop = _drop(reference, logits, self.labels)
        reason = None if record.passed else describe(record)
        if record.passed and drop > limits.drop:
            reason = (
                f"top-1 falls from {record.top1_reference:.2%} to {record.top1_exported:.2%} "
                f"(limit {limits.drop:.2%} beyond chance)"
            )
        worst = losses()[:3] if reason is not None and losses is not None else []
        self.links.append(
            Link(
                name=name,
                against=against,
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
                worst=tuple(loss.to_json() for loss in worst),
            )
        )
        self._last = (name, logits)
        return self.links[-1]

    def not_run(self, name: str, runner: str, reason: str) -> Link:
        """Say that a step cannot be run on this machine, and why."""
        assert self._last is not None
        self.links.append(
            Link(name=name, against=self._last[0], runner=runner, status="not run", reason=reason)
        )
        return self.links[-1]

    @property
    def broken(self) -> Link | None:
        """The first link that failed."""
        return next((link for link in self.links if link.status == "failed"), None)

    @property
    def reached(self) -> str:
        """The last step that was run."""
        assert self._last is not None
        return self._last[0]

    def whole(self) -> ParityRecord:
        """Compare the last step that was run with the compact network in torch."""
        assert self._first is not None
        assert self._last is not None
        limits = self._limits(self.precision)
        return compare_logits(
            self._first,
            self._last[1],
            self.labels,
            max_relative=limits.relative,
            min_agreement=limits.agreement,
        )

    def to_json(self) -> list[dict[str, Any]]:
        """The links as JSON objects."""
        return [link.model_dump(mode="json") for link in self.links]

    def _limits(self, precision: Precision) -> Limits:
        usual = LIMITS[precision]
        return Limits(
            usual.relative if self.max_relative is None else self.max_relative,
            usual.agreement if self.min_agreement is None else self.min_agreement,
            usual.drop,
        )


def open_chain(
    model: nn.Module,
    verified: Mapping[str, Any],
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    precision: Precision,
    *,
    max_relative: float | None = None,
    min_agreement: float | None = None,
) -> Chain:
    """Return a chain whose first step is the compact network `model`.

    Raises:
        CompressError: there are no images (exit USAGE).
    """
    if len(images) == 0:
        raise CompressError(
            "parity needs at least one test image; the data set gave none",
            hint="give a data set with test images (--data), or a larger --samples",
            code="no-samples",
        )
    chain = Chain(images, labels, precision, max_relative, min_agreement)
    chain.start(model, verified)
    return chain


def _verified(report: Mapping[str, Any], name: str, against: str, top1: float) -> Link:
    """The link that was proven when the compact network was saved."""
    return Link(
        name=name,
        against=against,
        runner="torch, when the run was made",
        status="passed" if report["passed"] else "failed",
        reason=None if report["passed"] else "the difference is past the tolerance",
        images=report["samples"],
        max_abs=report["max_abs"],
        max_rel=report["max_rel"],
        top1=top1 if name == COMPACT else None,  # a sliced network may have been trained since
        limit_rel=report["tolerance"],
    )


def _drop(before: NDArray[np.float32], after: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Loss of top-1 accuracy beyond two standard errors of the count of images that changed sides."""
    right, still = before.argmax(1) == labels, after.argmax(1) == labels
    changed = int((right != still).sum())
    return float((right.sum() - still.sum() - 2 * np.sqrt(changed)) / len(labels))
