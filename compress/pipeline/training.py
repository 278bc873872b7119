"""Run a training: a dense network first where the method needs one, then the method, into run folders.

The journey is ``resolve -> prepare_run -> [dense stage] -> method stage``; a stage is ``fit -> finish ->
save`` (`train_stage`). `compress.pipeline.estimation` runs the same stages with a measurement in place of
`fit`.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from compress.artifact import RunFolder, RunRecord, new_record
from compress.core.console import is_first_process
from compress.core.errors import CompressError, Exit
from compress.core.formatting import format_millions, format_percent, format_quantity
from compress.core.spec import Costs
from compress.cost import dense_costs
from compress.methods import Method
from compress.pipeline.gate_plot import plot_gates
from compress.pipeline.plan import PlannedNetwork
from compress.pipeline.request import ResolvedRequest, TrainRequest
from compress.pipeline.results import html_table
from compress.pipeline.resume import resolve_or_resume
from compress.pipeline.stages import PreparedRun, prepare_run
from compress.pipeline.verification import (
    VERIFY_IMAGES,
    check_parameter_count,
    finish_verified,
    save_verified,
    slice_verified,
)
from compress.slicing import VerifyReport
from compress.training import FitResult, Progress, fit
from compress.training.faults import RESUMABLE, Saved, with_resume_hint

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """Outcome of a training.

    Attributes:
        run: the run folder.
        method: name of the method.
        dense: costs of the dense network.
        compact: costs of the compact model.
        top1: accuracy of the compact model on the test images, a fraction.
        best_top1: best accuracy of all epochs.
        best_epoch: the epoch (from 1) that reached it.
        epochs: epochs trained.
        verify: reports of the exactness checks (`compact/verify.json`).
        is_first: whether this process wrote the run, of several.
        dense_epochs: epochs of the dense network before, within the requested number.
        dense_run: its run folder, or empty.
        profile: where the time of a step went, if requested.
        model: the compact model, on the CPU, in evaluation mode; None on a process that did not write the
            run.
    """

    run: Path
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
    model: nn.Module | None = field(default=None, repr=False, compare=False)
    _temporary: TemporaryDirectory[str] | None = field(default=None, repr=False, compare=False)

    def save(self, path: str | Path) -> Path:
        """Copy the run folder to `path`, for a training without `out`; return the new folder.

        Raises:
            CompressError: ``run-exists``: there is something at `path` already.
        """
        target = Path(path)
        if target.exists():
            raise CompressError(
                f"{str(target)!r} already exists", hint="choose another folder", code="run-exists"
            )
        shutil.copytree(self.run, target)
        return target

    def to_json(self) -> dict[str, Any]:
        """Return everything but the module, as JSON types."""
        skipped = ("is_first", "model", "_temporary")
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in skipped}
        return {
            **values,
            "run": str(self.run),
            "dense": self.dense.model_dump(),
            "compact": self.compact.model_dump(),
        }

    def __repr__(self) -> str:
        return (
            f"TrainResult({self.method}: top-1 {format_percent(self.top1)} "
            f"after {format_quantity(self.epochs, 'epoch')}, "
            f"{format_millions(self.compact.macs)} MACs of {format_millions(self.dense.macs)}, "
            f"{format_millions(self.compact.params)} parameters of {format_millions(self.dense.params)}, "
            f"run {str(self.run)!r})"
        )

    def _repr_html_(self) -> str:
        title = (
            f"{self.method}: top-1 {format_percent(self.top1)} after {format_quantity(self.epochs, 'epoch')}"
        )
        return html_table(title, {"dense": self.dense, "compact": self.compact}, f"run folder {self.run}")


Say = Callable[[str], None]


def run_training(
    request: TrainRequest,
    *,
    progress: Progress | None = None,
    command: Sequence[str] | None = None,
    say: Say = logger.info,
) -> TrainResult:
    """Train a compact model as requested and leave a run folder.

    Args:
        request: what is requested.
        progress: receives the progress of the epochs.
        command: the command line for the record.
        say: receives messages about what else is done, such as a dense network that is trained first.

    Raises:
        CompressError: whatever is wrong with the request, the data or the training; (exit 5) the compact
            model does not compute what was trained, and nothing was saved.
    """
    resolved = resolve_or_resume(request)
    run = prepare_run(resolved)
    resume = _check_folders(resolved, run)
    if resolved.target is not None and resolved.target.note:
        say(resolved.target.note)
    if run.dense is not None:
        _train_dense(run, progress, command, say)
        run = run.with_dense_weights()
    report = None
    images, _ = run.data.test_arrays(VERIFY_IMAGES)
    if run.network.plan is not None and not run.main.method.learns_plan:
        report = slice_verified(run.network.model, run.network.plan, images)[1]
    return train_stage(
        run.main,
        run.method(),
        run.network,
        run,
        images,
        resume=resume,
        progress=progress,
        command=command,
        slice_report=report,
    )


def train_stage(
    stage: ResolvedRequest,
    method: Method,
    network: PlannedNetwork,
    run: PreparedRun,
    images: Tensor,
    *,
    resume: bool,
    progress: Progress | None,
    command: Sequence[str] | None,
    slice_report: VerifyReport | None = None,
) -> TrainResult:
    """Train one stage, finish its network, verify it and save it into the stage's run folder.

    Args:
        stage: its settings.
        method: the method, with the network that is trained.
        network: the dense network, for the record.
        run: what was prepared.
        images: real test images `[N, C, H, W]` for the exactness checks.
        resume: resume the run in the folder.
        progress: receives the progress of the epochs.
        command: the command line for the record.
        slice_report: report on the sliced network before the training, if it was sliced.

    Raises:
        CompressError: as `run_training`.
    """
    record = stage_record(stage, network, run, command)
    with RunFolder.create(stage.out, record, resume=resume) as folder:
        fitted = fit(
            method.model,
            method,
            run.data,
            stage.config,
            folder,
            resume=resume,
            progress=progress,
            profile=stage.request.profile,
        )
        plan = method.final_plan(fitted.model)
        costs = plan.narrow if plan is not None else dense_costs(network.graph)
        model, verify = None, dict[str, Any]()
        if fitted.is_first:
            with with_resume_hint(folder, Saved(stage.config.epochs, fitted.epochs)):
                model, report = finish_verified(method, fitted.model, images)
                check_parameter_count(model, costs, network)
                verify = save_verified(
                    folder,
                    model,
                    network.spec,
                    plan,
                    images,
                    {"compact_vs_trained": report, "sliced_vs_masked_dense": slice_report},
                    _extra(fitted, stage),
                    stage.model,
                )
                if method.learns_plan:
                    setup = method.setup
                    plot_gates(folder.path, method.name, setup.cost, setup.budget / setup.dense_cost)
        return TrainResult(
            run=stage.out,
            method=method.name,
            dense=dense_costs(network.graph),
            compact=costs,
            top1=fitted.top1,
            best_top1=fitted.best_top1,
            best_epoch=fitted.best_epoch,
            epochs=fitted.epochs,
            verify=verify,
            is_first=fitted.is_first,
            dense_epochs=stage.dense_epochs,
            dense_run=str(Path(stage.request.weights or "").parents[1]) if stage.dense_epochs else "",
            profile=fitted.profile,
            model=model.eval() if model is not None else None,
        )


def stage_record(
    stage: ResolvedRequest, network: PlannedNetwork, run: PreparedRun, command: Sequence[str] | None
) -> RunRecord:
    """Return the `run.json` of a stage."""
    return new_record(
        model=network.spec,
        data=run.data.info,
        dense=dense_costs(network.graph),
        target=stage.target.text if stage.target is not None else "",
        seed=stage.config.seed,
        method=stage.method.name,
        settings={**stage.settings(), "dense_epochs": stage.dense_epochs},
        command=command,
    )


def _extra(fitted: FitResult, stage: ResolvedRequest) -> dict[str, Any]:
    extra = {"top1": fitted.top1, "best_top1": fitted.best_top1, "epochs": fitted.epochs}
    return {**extra, "dense_epochs": stage.dense_epochs} if stage.dense_epochs else extra


def _train_dense(
    run: PreparedRun, progress: Progress | None, command: Sequence[str] | None, say: Say
) -> None:
    """Train the dense network in its own run folder, or resume it there.

    A folder that this call made is removed again if the training failed in a way that cannot be resumed.
    """
    assert run.dense is not None
    stage, out, epochs = run.dense, run.dense.out, run.main.dense_epochs
    say(
        f"no weights are given: {run.main.method.name} trains the dense network first, {epochs} of "
        f"{epochs + run.main.config.epochs} epochs, in {out}; the method uses the rest"
    )
    is_new = not out.exists()
    images, _ = run.data.test_arrays(VERIFY_IMAGES)
    try:
        train_stage(
            stage,
            run.dense_method(),
            run.network,
            run,
            images,
            resume=stage.request.resume,
            progress=progress,
            command=command,
        )
    except CompressError as error:
        if is_new and error.code not in RESUMABLE and is_first_process():
            shutil.rmtree(out, ignore_errors=True)
        raise
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()  # the first process writes what the others are about to read


def _check_folders(resolved: ResolvedRequest, run: PreparedRun) -> bool:
    """Check the run folders before anything is trained; return whether the method's own run is resumed.

    A training that was stopped while its dense network was trained has only the dense network's folder.

    Raises:
        CompressError: ``run-exists``, ``nothing-to-resume``.
    """
    if run.dense is None:
        return resolved.request.resume
    has_own, has_dense = ((out / "run.json").is_file() for out in (resolved.out, run.dense.out))
    if has_own:
        raise CompressError(
            f"{str(resolved.out)!r} already contains a run",
            hint="resume it with --resume, or choose another --out",
            code="run-exists",
        )
    if resolved.request.resume and not has_dense:
        raise CompressError(
            f"there is no run to resume in {str(resolved.out)!r}: it contains no run.json",
            hint="start without --resume",
            code="nothing-to-resume",
            exit=Exit.MISSING,
        )
    return False
