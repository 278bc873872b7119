"""Train a network narrow and leave a run folder."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .. import data as image_data
from ..artifact import RunFolder, load, new_record, save_compact
from ..data import ImageData
from ..errors import CompressError, Exit
from ..methods import Method, Prepared
from ..slicing import RELATIVE_TOLERANCE, VerifyReport, compare, slice_model, verify
from ..spec import Costs
from ..training import FitResult, Progress, fit
from .plan import Planned, plan_training
from .request import Resolved, Size, TrainRequest, resolve

VERIFY_IMAGES = 64
"""Real test images on which every slice is verified."""


@dataclass(frozen=True)
class TrainResult:
    """What a training left behind.

    Attributes:
        run: path of the run folder. dense, compact: costs. top1: accuracy of the compact model, a fraction.
        best_top1: the best of all epochs. verify: the record of the exactness gate.
        is_first: whether this process wrote the run (of several).
    """

    run: str
    method: str
    dense: Costs
    compact: Costs
    top1: float
    best_top1: float
    best_epoch: int
    epochs: int
    verify: dict[str, Any]
    is_first: bool = True


def shapes(resolved: Resolved, data: ImageData | None) -> tuple[int, Size]:
    """Number of classes and input size: as asked, or the data's.

    Raises:
        CompressError: (exit 2) the two disagree.
    """
    if data is None:
        assert resolved.num_classes is not None
        assert resolved.input_size is not None
        return resolved.num_classes, resolved.input_size
    classes = data.info.num_classes
    if resolved.num_classes is not None and resolved.num_classes < classes:
        raise CompressError(
            f"the model would have {resolved.num_classes} classes, the data {data.info.name!r} have {classes}",
            hint=f"leave out --num-classes, or give {classes}", code="class-count",
        )
    return resolved.num_classes or classes, data.info.preprocess.input_size


def load_data(resolved: Resolved, needed: bool = True) -> ImageData | None:
    """The data, unless only shapes are needed and these are given."""
    if not needed and resolved.num_classes is not None and resolved.input_size is not None:
        return None
    return image_data.load(resolved.data, resolved.input_size, workers=resolved.request.workers)


def train(request: TrainRequest, *, progress: Progress | None = None, command: Sequence[str] | None = None
          ) -> TrainResult:
    """Train a network narrow: plan, prepare, fit, fold, verify, save.

    Args:
        request: what is asked. progress: told how far it is. command: the command line for the record.

    Raises:
        CompressError: whatever is wrong with the request, the data or the training; (exit 5) the compact
            network does not compute what was trained, and nothing was saved.
    """
    resolved = resolve(request)
    data = load_data(resolved)
    assert data is not None
    planned = plan_training(resolved, *shapes(resolved, data))
    method = resolved.method(resolved.options)
    images, _ = data.test_arrays(VERIFY_IMAGES)
    sliced = check_slice(planned, images)
    prepared = method.prepare(planned.model, planned.graph, planned.plan)
    record = new_record(
        model=planned.spec, data=data.info, dense=planned.graph.costs, target=resolved.target or "",
        seed=resolved.config.seed, method=method.name, settings=resolved.settings(), command=command,
    )
    with RunFolder.create(resolved.out, record, resume=request.resume) as run:
        result = fit(prepared.model, method, data, resolved.config, run, resume=request.resume, progress=progress)
        report: dict[str, Any] = {}
        if result.is_first:
            report = save_verified(run, method, prepared, planned, result, images, sliced)
        return TrainResult(
            run=str(resolved.out), method=method.name, dense=planned.graph.costs, compact=planned.narrow,
            top1=result.top1, best_top1=result.best_top1, best_epoch=result.best_epoch, epochs=result.epochs,
            verify=report, is_first=result.is_first,
        )


def check_slice(planned: Planned, images: Tensor) -> VerifyReport | None:
    """Compare the sliced network with the masked dense one before anything is trained.

    Raises:
        CompressError: (exit 5) they differ by more than the tolerance.
    """
    if planned.plan is None:
        return None
    report = verify(planned.model, planned.plan, slice_model(planned.model, planned.plan), images)
    if not report.passed:
        raise _broken("the sliced network differs from the masked dense one", report)
    return report


def save_verified(
    run: RunFolder, method: Method, prepared: Prepared, planned: Planned, result: FitResult, images: Tensor,
    sliced: VerifyReport | None,
) -> dict[str, Any]:
    """Fold the trained network, prove that it computes the same, save it, and prove that it loads.

    Raises:
        CompressError: (exit 5) it does not; the compact model is then not saved.
    """
    trained = copy.deepcopy(result.model).cpu().float()
    compact = method.finish(trained)
    folded = compare(trained, compact, (images,))
    if not folded.passed:
        raise _broken("the compact network differs from the trained one", folded)
    report = {
        "tolerance": RELATIVE_TOLERANCE,
        "compact_vs_trained": folded.to_json(),
        "sliced_vs_masked_dense": sliced.to_json() if sliced else None,
    }
    extra = {"top1": result.top1, "best_top1": result.best_top1, "epochs": result.epochs}
    _check_size(compact, planned)
    save_compact(run, compact, planned.spec, prepared.plan, report, extra)
    loaded = compare(compact, load(run), (images,))
    if not loaded.passed:
        raise _broken("the saved model differs from the one in memory", loaded)
    return report


def _check_size(compact: nn.Module, planned: Planned) -> None:
    """The planned parameter count is the real one."""
    real = sum(p.numel() for p in compact.parameters())
    unused = sum(p.numel() for p in planned.model.parameters()) - planned.graph.costs.params
    if real - unused != planned.narrow.params:
        raise CompressError(
            f"the compact network has {real:,} parameters, planned were {planned.narrow.params:,}",
            code="internal", exit=Exit.INTERNAL,
        )


def _broken(what: str, report: VerifyReport) -> CompressError:
    return CompressError(
        f"{what}: largest relative difference {report.max_rel:.3g}, allowed {report.tolerance:g}",
        hint="nothing was saved; please report the network", code="not-exact", exit=Exit.PARITY,
        details=report.to_json(),
    )
