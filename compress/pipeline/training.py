"""Train a network narrow and leave a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .. import data as image_data
from ..artifact import RunFolder, new_record
from ..data import ImageData
from ..errors import CompressError
from ..spec import Costs
from ..training import Progress, fit
from ..training.device import resolve_device
from .gates import VERIFY_IMAGES, check_size, cut, fold, save_verified
from .plan import plan_training
from .request import Resolved, Size, TrainRequest, resolve


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
    if resolved.num_classes not in (None, classes):
        raise CompressError(
            f"the model would have {resolved.num_classes} classes, {data.info.name!r} has {classes}",
            hint=f"leave out --num-classes, or give {classes}",
            code="class-count",
        )
    return classes, data.info.preprocess.input_size


def load_data(resolved: Resolved, needed: bool = True) -> ImageData | None:
    """The data, unless only shapes are needed and these are given."""
    if not needed and resolved.num_classes is not None and resolved.input_size is not None:
        return None
    return image_data.load(resolved.data, resolved.input_size, workers=resolved.request.workers)


def train(
    request: TrainRequest, *, progress: Progress | None = None, command: Sequence[str] | None = None
) -> TrainResult:
    """Train a network narrow: plan, prepare, fit, fold, verify, save.

    Args:
        request: what is asked. progress: told how far it is. command: the command line for the record.

    Raises:
        CompressError: whatever is wrong with the request, the data or the training; (exit 5) the compact
            network does not compute what was trained, and nothing was saved.
    """
    resolved = resolve(request)
    resolve_device(resolved.config)
    data = load_data(resolved)
    assert data is not None
    planned = plan_training(resolved, *shapes(resolved, data))
    method = resolved.method(resolved.options)
    images, _ = data.test_arrays(VERIFY_IMAGES)
    sliced = cut(planned.model, planned.plan, images)[1] if planned.plan is not None else None
    prepared = method.prepare(planned.model, planned.graph, planned.plan)
    record = new_record(
        model=planned.spec,
        data=data.info,
        dense=planned.graph.costs,
        target=resolved.target or "",
        seed=resolved.config.seed,
        method=method.name,
        settings=resolved.settings(),
        command=command,
    )
    with RunFolder.create(resolved.out, record, resume=request.resume) as run:
        result = fit(
            prepared.model, method, data, resolved.config, run, resume=request.resume, progress=progress
        )
        report: dict[str, Any] = {}
        if result.is_first:
            compact, fold_report = fold(method, result.model, images)
            check_size(compact, planned)
            gates = {"compact_vs_trained": fold_report, "sliced_vs_masked_dense": sliced}
            extra = {"top1": result.top1, "best_top1": result.best_top1, "epochs": result.epochs}
            report = save_verified(run, compact, planned.spec, prepared.plan, images, gates, extra)
        return TrainResult(
            run=str(resolved.out),
            method=method.name,
            dense=planned.graph.costs,
            compact=planned.narrow,
            top1=result.top1,
            best_top1=result.best_top1,
            best_epoch=result.best_epoch,
            epochs=result.epochs,
            verify=report,
            is_first=result.is_first,
        )
