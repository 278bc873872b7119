"""Train a network narrow and leave a run folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from compress import data as image_data
from compress.artifact import RunFolder, new_record
from compress.core.errors import CompressError, Exit
from compress.core.spec import Costs
from compress.data import ImageData
from compress.methods import Setup
from compress.pipeline.curves import plot_gates
from compress.pipeline.plan import Planned, parse_target, plan_training
from compress.pipeline.request import Resolved, Size, TrainRequest, resolve
from compress.pipeline.start import dense_epochs, dense_folder, find_teacher, needs_dense, train_dense
from compress.pipeline.verification import VERIFY_IMAGES, check_size, cut, fold, save_verified
from compress.training import Progress, fit
from compress.training.device import resolve_device

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """What a training left behind.

    Attributes:
        run: path of the run folder. dense, compact: costs. top1: accuracy of the compact model, a fraction.
        best_top1: the best of all epochs. verify: the record of the exactness gate.
        is_first: whether this process wrote the run (of several).
        dense_epochs: epochs spent on a dense network first, within the budget. dense_run: its run folder.
        profile: where the time of a step went, if that was asked.
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
    dense_epochs: int = 0
    dense_run: str = ""
    profile: dict[str, Any] | None = None


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
    request = resolved.request
    images = image_data.load(resolved.data, resolved.input_size, workers=request.workers, dali=request.dali)
    return image_data.with_normalization(images, request.mean, request.std)


def train(
    request: TrainRequest,
    *,
    progress: Progress | None = None,
    command: Sequence[str] | None = None,
    say: Callable[[str], None] = logger.info,
) -> TrainResult:
    """Train a network narrow: plan, prepare, fit, fold, verify, save.

    Args:
        request: what is asked. progress: told how far it is. command: the command line for the record.
        say: told what else is done, such as the training of a dense network first.

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
    method.setup = setup_for(resolved, planned, data)
    method.check(planned.graph)
    resume = request.resume
    if needs_dense(resolved):
        dense_epochs(resolved)
        resume = _goes_on(resolved)
    start = train_dense(resolved, progress, command, say)
    if start.dense_epochs:
        resolved = start.resolved
        planned = plan_training(resolved, *shapes(resolved, data))
        method.setup = setup_for(resolved, planned, data)
    images, _ = data.test_arrays(VERIFY_IMAGES)
    first = planned.plan if not method.chooses else None
    sliced = cut(planned.model, first, images)[1] if first is not None else None
    torch.manual_seed(resolved.config.seed)  # what a method draws does not depend on how its teacher came
    prepared = method.prepare(planned.model, planned.graph, planned.plan)
    record = new_record(
        model=planned.spec,
        data=data.info,
        dense=planned.graph.costs,
        target=resolved.target or "",
        seed=resolved.config.seed,
        method=method.name,
        settings={**resolved.settings(), "dense_epochs": start.dense_epochs},
        command=command,
    )
    with RunFolder.create(resolved.out, record, resume=resume) as run:
        result = fit(
            prepared.model,
            method,
            data,
            resolved.config,
            run,
            resume=resume,
            progress=progress,
            profile=request.profile,
        )
        if method.chooses:
            planned = replace(planned, plan=method.plan(result.model))
        report: dict[str, Any] = {}
        if result.is_first:
            compact, fold_report = fold(method, result.model, images)
            check_size(compact, planned)
            gates = {"compact_vs_trained": fold_report, "sliced_vs_masked_dense": sliced}
            extra = {"top1": result.top1, "best_top1": result.best_top1, "epochs": result.epochs}
            if start.dense_epochs:
                extra["dense_epochs"] = start.dense_epochs
            plan = planned.plan if method.chooses else prepared.plan
            report = save_verified(run, compact, planned.spec, plan, images, gates, extra)
            if method.chooses:
                dense_cost = getattr(planned.graph.costs, method.setup.kind)
                plot_gates(run.path, method.name, method.setup.kind, method.setup.goal / dense_cost)
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
            dense_epochs=start.dense_epochs,
            dense_run=start.dense_run,
            profile=result.profile,
        )


def setup_for(resolved: Resolved, planned: Planned, data: ImageData) -> Setup:
    """What the method must know before it prepares the network."""
    kind, goal = parse_target(resolved.target) if resolved.target else ("", 0.0)
    if kind and goal <= 1:
        goal *= getattr(planned.graph.costs, kind)
    teacher = find_teacher(resolved, planned.model, planned.spec)
    steps = len(data.train_batches(epoch=0, batch_size=resolved.config.batch_size, seed=0))
    return Setup(resolved.config, steps, kind, goal, resolved.request.align, teacher)


def _goes_on(resolved: Resolved) -> bool:
    """Before a dense network is trained: whether the method's own run is there to go on with.

    A training that was stopped while its dense network was trained has only that one's.

    Raises:
        CompressError: ``run-exists``, ``nothing-to-resume``: now, and not when the dense network is trained.
    """
    has_own, has_dense = ((at / "run.json").is_file() for at in (resolved.out, dense_folder(resolved)))
    if has_own and not resolved.request.resume:
        raise CompressError(
            f"{str(resolved.out)!r} already holds a run",
            hint="go on with it by --resume, or choose another --out",
            code="run-exists",
        )
    if resolved.request.resume and not has_own and not has_dense:
        raise CompressError(
            f"there is no run to resume in {str(resolved.out)!r}: it holds no run.json",
            hint="start without --resume",
            code="nothing-to-resume",
            exit=Exit.MISSING,
        )
    return has_own
