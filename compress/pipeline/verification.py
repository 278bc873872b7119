"""What is saved was proved first: gates between what was trained, what is stored and what is loaded again."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compress.artifact import RunFolder, load, save_compact
from compress.core.errors import CompressError, Exit
from compress.core.spec import ModelSpec
from compress.graph import SlicePlan
from compress.methods import Method
from compress.pipeline.plan import Planned
from compress.slicing import RELATIVE_TOLERANCE, VerifyReport, compare, slice_model, verify

VERIFY_IMAGES = 64
"""Real test images on which every gate compares."""


def cut(model: nn.Module, plan: SlicePlan, images: Tensor) -> tuple[nn.Module, VerifyReport]:
    """Slice a network and compare it with the masked dense one on images `[N, C, H, W]`.

    Raises:
        CompressError: (exit 5) they differ by more than the tolerance.
    """
    narrow = slice_model(model, plan)
    report = verify(model, plan, narrow, images)
    return narrow, _passed(report, "the sliced network differs from the masked dense one")


def fold(method: Method, trained: nn.Module, images: Tensor) -> tuple[nn.Module, VerifyReport]:
    """The trained network as an ordinary narrow one, on the CPU, and how far the two are apart.

    Raises:
        CompressError: (exit 5) by more than the tolerance.
    """
    trained = copy.deepcopy(trained).cpu().float().to(memory_format=torch.contiguous_format)
    compact = method.finish(trained)
    report = compare(trained, compact, (images,))
    return compact, _passed(report, "the compact network differs from the trained one")


def check_size(compact: nn.Module, planned: Planned) -> None:
    """Make sure that the planned parameter count is the real one.

    Raises:
        CompressError: (exit 1) it is not.
    """
    real = sum(p.numel() for p in compact.parameters())
    unused = sum(p.numel() for p in planned.model.parameters()) - planned.graph.costs.params
    if real - unused != planned.narrow.params:
        raise CompressError(
            f"the compact network has {real - unused:,} parameters, planned were {planned.narrow.params:,}",
            hint="nothing was saved; please report the network",
            code="internal",
            exit=Exit.INTERNAL,
        )


def save_verified(
    run: RunFolder,
    compact: nn.Module,
    spec: ModelSpec,
    plan: SlicePlan | None,
    images: Tensor,
    gates: Mapping[str, VerifyReport | None],
    extra: dict[str, Any],
) -> dict[str, Any]:
    """Save a compact model and prove that it loads; return what is written into `verify.json`.

    Args:
        run: where to. compact: the network. spec, plan: how it is built again.
        images: `[N, C, H, W]`, as for the gates. gates: their reports, by name.
        extra: for `model.json`.

    Raises:
        CompressError: what cannot be written or read; (exit 5) what is loaded computes something else, and
            is then removed.
    """
    reports = {name: report.to_json() if report is not None else None for name, report in gates.items()}
    record = {"tolerance": RELATIVE_TOLERANCE, **reports}
    save_compact(run, compact, spec, plan, record, extra)
    try:
        loaded = load(run)
        _passed(compare(compact, loaded, (images,)), "the saved model differs from the one in memory")
    except BaseException:
        shutil.rmtree(run.compact, ignore_errors=True)
        raise
    return record


def _passed(report: VerifyReport, what: str) -> VerifyReport:
    if not report.passed:
        raise CompressError(
            f"{what}: largest relative difference {report.max_rel:.3g}, allowed {report.tolerance:g}",
            hint="no compact model was saved; please report the network",
            code="not-exact",
            exit=Exit.PARITY,
            details=report.to_json(),
        )
    return report
