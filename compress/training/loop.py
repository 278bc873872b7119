"""The training loop: epochs, evaluation, log, checkpoints, resuming.

Reading order: `fit`, `TrainingLoop.run_epochs`, `TrainingLoop._run_epoch`, then one optimizer step in
`compress.training.steps.Stepper.step`.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from compress.artifact import RunFolder
from compress.core.errors import CompressError
from compress.data.base import deliver_to
from compress.data.placement import place_data
from compress.training.checkpoint import checkpoint_path, load_checkpoint, save_checkpoint
from compress.training.compiling import choose_mode
from compress.training.config import TrainConfig
from compress.training.device import (
    accelerated,
    prepare,
    seed_everything,
    share_from_first,
    sum_over_processes,
)
from compress.training.ema import Ema
from compress.training.evaluation import EvalResult, evaluate, to_device
from compress.training.faults import Saved, explain_failures, interruptible
from compress.training.method import TrainableMethod
from compress.training.metrics import MetricsLog, Row, open_tracker
from compress.training.optim import build_optimizers
from compress.training.profiling import StepProfiler
from compress.training.progress import NoProgress, Progress
from compress.training.state import TrainState
from compress.training.steps import EpochSums, Forward, Stepper, train_epoch
from compress.training.sync_norms import synchronized_norms, uses_sync_bn

if TYPE_CHECKING:
    from accelerate import Accelerator

    from compress.data import ImageData

_TRIAL_BATCHES = 8
"""Number of real batches on which the modes of a step are measured."""


@dataclass(frozen=True)
class FitResult:
    """Outcome of a training.

    Attributes:
        model: the given model with its final weights (the average, if one was kept), on the training device.
        epochs: epochs finished in total.
        top1: accuracy of the last epoch on the test images, a fraction.
        best_top1: best accuracy of all epochs, whose weights are in ``checkpoints/best.pt``.
        best_epoch: the epoch (from 1) that reached it.
        history: the lines of `metrics.jsonl`.
        is_first: whether this process writes, of several.
        profile: where the time of a step went, if requested (`profile/table.json`).
    """

    model: nn.Module
    epochs: int
    top1: float
    best_top1: float
    best_epoch: int
    history: list[Row] = field(default_factory=list)
    is_first: bool = True
    profile: dict[str, Any] | None = None


def fit(
    model: nn.Module,
    method: TrainableMethod,
    data: ImageData,
    config: TrainConfig,
    run: RunFolder,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    profile: bool = False,
) -> FitResult:
    """Train `model` in place and write log and checkpoints into the run folder.

    Every epoch is a function of the state at its start: the generators are seeded from (seed, epoch), so a
    training that was killed and resumed ends with exactly the same weights on a CPU. Under `torchrun` the
    processes share the batch and only the first one writes.

    Args:
        model: the network, with the method's parametrizations in place.
        method: the hooks the loop calls.
        data: training and test images.
        config: the settings.
        run: an open run folder that this process may write to.
        resume: resume from the last checkpoint; from the start if there is none.
        progress: receives the progress.
        profile: write a trace of some steps and a table of their time into the run folder.

    Raises:
        CompressError: ``non-finite``, ``interrupted`` (exit 130), ``resume-mismatch``, ``damaged-file``,
            ``disk-full``, ``no-device``, ``precision``, ``batch-size``, ``model-output``, ``no-data``,
            ``not-locked``, ``data-on-device``, ``compile``, ``out-of-memory``, ``device-lost``,
            ``worker-died``, ``sync-bn``, ``missing-package``.
    """
    saved = Saved(config.epochs)
    progress = progress if progress is not None else NoProgress()
    with (
        interruptible(run, saved),
        explain_failures(run, saved, config),
        accelerated(config) as accelerator,
    ):
        if accelerator.is_main_process and not run.is_writer:
            raise CompressError(
                f"the run folder {str(run.path)!r} was not opened for writing",
                hint="open it with RunFolder.create(...) or RunFolder.open(..., write=True)",
                code="not-locked",
            )
        loop = TrainingLoop(model, method, data, config, run, accelerator, saved, progress)
        try:
            with synchronized_norms(model, loop.sync_bn):
                return loop.run_epochs(resume, profile)
        finally:
            loop.close()


class TrainingLoop:
    """One training, from its first epoch or the one after the last checkpoint."""

    def __init__(
        self,
        model: nn.Module,
        method: TrainableMethod,
        data: ImageData,
        config: TrainConfig,
        run: RunFolder,
        accelerator: Accelerator,
        saved: Saved,
        progress: Progress,
    ) -> None:
        self.config, self.run = config, run
        self.accelerator, self.saved = accelerator, saved
        self.progress: Progress = progress if accelerator.is_main_process else NoProgress()
        self.log: MetricsLog | None = None
        self.profiler: StepProfiler | None = None
        placement = place_data(
            deliver_to(data, accelerator.device), accelerator.device, config.data_on_device
        )
        self.data = placement.data
        self.run.record_decision("data_on_device", {"on_device": placement.on_device, "why": placement.why})
        self.share = {"rank": accelerator.process_index, "world": accelerator.num_processes}
        self.batch_size = config.batch_size // accelerator.num_processes
        self.criterion = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
        self.classes = data.info.num_classes
        self.sync_bn = uses_sync_bn(config.sync_bn, accelerator.device.type, accelerator.num_processes)
        self.wrapped = prepare(accelerator, model, channels_last=config.channels_last)
        self.state = TrainState(
            model=model,
            method=method,
            optimizers=build_optimizers(model, method, config),
            ema=Ema(model, config.ema) if config.ema is not None else None,
            scaler=accelerator.scaler if config.precision == "fp16" else None,
        )
        share_from_first(accelerator, self.state.outside_parameters())
        self.steps = len(self.train_batches(0))
        if not self.steps:
            raise CompressError("there are no training images", hint="check the data set", code="no-data")
        forward = Forward(self.wrapped, model, method, self.criterion, self.classes)
        self.stepper = Stepper(self.state, forward, accelerator, config, self.steps)

    def run_epochs(self, resume: bool, profile: bool) -> FitResult:
        """Train the epochs that are left."""
        if resume and checkpoint_path(self.run).is_file():
            self.state.load_state_dict(load_checkpoint(self.run), self.config, self.run)
        self.saved.finished = self.state.epoch
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            finished = self.state.epoch
            tracker = open_tracker(self.config, self.run, finished)
            self.log = MetricsLog(self.run.metrics_path, finished, tracker)
        self.progress.start(self.config.epochs, self.steps, self.state.epoch)
        self._choose_mode()
        if profile and self.accelerator.is_main_process:
            left = (self.config.epochs - self.state.epoch) * self.steps
            folder = self.run.path / "profile"
            self.profiler = StepProfiler(folder, self.accelerator.device, self.steps, left)
        top1 = -1.0
        while self.state.epoch < self.config.epochs:
            top1 = self._run_epoch()
        if top1 < 0:
            top1 = self._evaluate().top1
        if self.state.ema is not None:
            self.state.model.load_state_dict(self.state.ema.module.state_dict())
        return FitResult(
            model=self.state.model,
            epochs=self.state.epoch,
            top1=top1,
            best_top1=self.state.best_top1,
            best_epoch=self.state.best_epoch,
            history=self.log.rows if self.log is not None else [],
            is_first=self.accelerator.is_main_process,
            profile=self.profiler.result if self.profiler is not None else None,
        )

    def _choose_mode(self) -> None:
        """Decide whether the steps are compiled, and report it if there was a choice."""
        before = self.run.record.decisions.get("compile", {}).get("mode")

        def batches() -> list[tuple[Tensor, Tensor]]:
            some = islice(self.train_batches(self.state.epoch), _TRIAL_BATCHES)
            device, last = self.accelerator.device, self.config.channels_last
            return [to_device(x, y, device, channels_last=last) for x, y in some]

        decision = choose_mode(
            self.stepper,
            self.run,
            self.config.compile,
            (self.config.epochs - self.state.epoch) * self.steps,
            self.begin_epoch,
            batches,
            before if self.state.epoch else None,
        )
        if decision.steps_left or self.config.compile == "off":
            self.run.record_decision("compile", decision.to_json())
        if self.accelerator.device.type != "cpu" or decision.mode != "eager":
            self.progress.note(f"steps run {decision.mode}: {decision.why}")
            for mode, error in decision.failed.items():
                self.progress.note(f"{mode} does not run here: {error}")

    def close(self) -> None:
        """Stop the progress, close the log and the profiler, and drop compiled code."""
        self.progress.stop()
        if self.profiler is not None:
            self.profiler.close()
        if self.stepper.forward.mode != "eager":
            torch.compiler.reset()
        if self.log is not None:
            self.log.close()

    def _run_epoch(self) -> float:
        """Run one epoch: steps, evaluation, log, checkpoint; return its accuracy on the test images."""
        state, config = self.state, self.config
        epoch = state.epoch
        self.begin_epoch()
        batches = self.train_batches(epoch)
        sums = train_epoch(self.stepper, self.wrapped, batches, self.progress, self.profiler)
        share_from_first(self.accelerator, state.model.buffers())
        state.method.end_epoch(state.model, epoch, config.epochs)
        result = self._evaluate()
        state.epoch = epoch + 1
        self._save(sums, result)
        return result.top1

    def begin_epoch(self) -> None:
        """Seed the generators and call the method's hook; depends on the state and the epoch only."""
        state, config = self.state, self.config
        seed_everything(config.seed, state.epoch)
        state.method.begin_epoch(state.model, state.epoch, config.epochs)
        seed_everything(config.seed, state.epoch, self.accelerator.process_index)

    def _save(self, sums: EpochSums, result: EvalResult) -> None:
        """Log the epoch, then save it: resuming drops a log line without a checkpoint but cannot add one."""
        state = self.state
        better = result.top1 > state.best_top1
        if better:
            state.best_top1, state.best_epoch = result.top1, state.epoch
        extras = state.method.metrics()
        if self.log is None:
            return
        row = _row(state.epoch, sums, result, extras)
        self.log.append(row)
        if better or state.epoch % self.config.checkpoint_every == 0 or state.epoch == self.config.epochs:
            save_checkpoint(self.run, state.state_dict(self.config), best=better)
            self.saved.finished = state.epoch
        self.progress.epoch(row)

    def train_batches(self, epoch: int) -> Any:
        return self.data.train_batches(
            epoch=epoch, batch_size=self.batch_size, seed=self.config.seed, **self.share
        )

    def _evaluate(self) -> EvalResult:
        def total(tensor: Tensor) -> Tensor:
            return sum_over_processes(self.accelerator, tensor)

        return evaluate(
            self.state.evaluated,
            self.data.test_batches(batch_size=max(self.batch_size, 256), **self.share),
            self.accelerator.device,
            self.classes,
            channels_last=self.config.channels_last,
            autocast=self.accelerator.autocast if self.config.precision != "fp32" else contextlib.nullcontext,
            reduce=total,
        )


def _row(epoch: int, sums: EpochSums, result: EvalResult, extras: dict[str, float]) -> Row:
    row: Row = {
        "epoch": epoch,
        "train_loss": sums.loss,
        "train_top1": sums.top1,
        "test_loss": result.loss,
        "test_top1": result.top1,
        "test_top5": result.top5,
        "lr": sums.lr,
        "seconds": sums.seconds,
        "images_per_second": sums.images / sums.seconds,
    }
    clash = sorted(row.keys() & extras.keys())
    if clash:
        raise ValueError(f"a method's metrics cannot be called {clash}")
    return row | extras
