"""Exactness checks before and after a compact model is saved.

Three comparisons on real images: the sliced network with the masked dense one, the compact model with the
trained network, and the loaded model with the one in memory. Nothing is saved if one fails.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compress.artifact import RunFolder, load, save_compact
from compress.core.errors import CompressError, Exit
from compress.core.spec import Costs, ModelSpec
from compress.cost import dense_costs
from compress.graph import SlicePlan
from compress.methods import Method
from compress.pipeline.plan import PlannedNetwork
from compress.pipeline.request import DenseSource
from compress.slicing import RELATIVE_TOLERANCE, VerifyReport, compare, slice_model, verify

VERIFY_IMAGES = 64
"""Number of real test images that every exactness check compares."""


def slice_verified(model: nn.Module, plan: SlicePlan, images: Tensor) -> tuple[nn.Module, VerifyReport]:
    """Slice a network and compare it with the masked dense one on images `[N, C, H, W]`.

    Raises:
        CompressError: (exit 5) they differ by more than the tolerance.
    """
    compact = slice_model(model, plan)
    report = verify(model, plan, compact, images)
    return compact, _passed(report, "the sliced network differs from the masked dense one")


def finish_verified(method: Method, trained: nn.Module, images: Tensor) -> tuple[nn.Module, VerifyReport]:
    """Return the trained network as an ordinary compact model, on the CPU, compared on images `[N, C, H, W]`.

    Raises:
        CompressError: (exit 5) they differ by more than the tolerance.
    """
    trained = copy.deepcopy(trained).cpu().float().to(memory_format=torch.contiguous_format)
    compact = method.finish(trained)
    report = compare(trained, compact, (images,))
    return compact, _passed(report, "the compact network differs from the trained one")


def check_parameter_count(compact: nn.Module, costs: Costs, network: PlannedNetwork) -> None:
    """Make sure that the compact model has the planned number of parameters.

    Args:
        compact: the model.
        costs: the planned costs.
        network: the dense network; its parameters that no output depends on are not counted.

    Raises:
        CompressError: (exit 1) it has not.
    """
    actual = sum(p.numel() for p in compact.parameters())
    unused = sum(p.numel() for p in network.model.parameters()) - dense_costs(network.graph).params
    if actual - unused != costs.params:
        raise CompressError(
            f"the compact network has {actual - unused:,} parameters, planned were {costs.params:,}",
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
    checks: Mapping[str, VerifyReport | None],
    extra: dict[str, Any],
    source: DenseSource,
) -> dict[str, Any]:
    """Save a compact model, load it again and compare; return the content of `verify.json`.

    Args:
        run: the run folder.
        compact: the model.
        spec: how its dense network is built again.
        plan: what was kept of the dense network.
        images: `[N, C, H, W]`, as for the other checks.
        checks: reports of the checks before, by name.
        extra: further numbers for `model.json`.
        source: the dense network, which is needed to load a module that was passed.

    Raises:
        CompressError: a file that cannot be written or read; (exit 5) the loaded model computes something
            else, and is then removed.
    """
    reports = {name: report.to_json() if report is not None else None for name, report in checks.items()}
    record = {"tolerance": RELATIVE_TOLERANCE, **reports}
    save_compact(run, compact, spec, plan, record, extra)
    try:
        loaded = load(run) if source.module is None else load(run, model=source.module)
        _passed(compare(compact, loaded, (images,)), "the saved model differs from the one in memory")
    except BaseException:
        shutil.rmtree(run.compact, ignore_errors=True)
        raise
    return record


def _passed(report: VerifyReport, what: str) -> VerifyReport:
    if not report.passed:
        raise CompressError(
            f"{what}: {report.describe()}",
            hint="no compact model was saved; please report the network",
            code="not-exact",
            exit=Exit.PARITY,
            details=report.to_json(),
        )
    return report
