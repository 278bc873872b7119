"""Estimate the time and memory of a training from steps that are run for a minute."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from compress.artifact import RunFolder
from compress.core.console import is_first_process
from compress.core.errors import CompressError
from compress.core.files import explain_write_errors
from compress.pipeline.request import ResolvedRequest, TrainRequest, resolve
from compress.pipeline.stages import PreparedRun, prepare_run
from compress.pipeline.training import stage_record
from compress.training.estimate import PhaseTime, TrainingMeasurement, measure_training

MIN_SECONDS = 1.0
"""Shortest measurement."""


@dataclass(frozen=True)
class StageEstimate:
    """One training of a run: the method's, or that of the dense network before it.

    Attributes:
        method: name of the method.
        epochs: epochs of the stage.
        batch_size: images per step, over all processes.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        setup_s: seconds to build, trace and prepare the network.
        checkpoints: number of checkpoints written.
        measured: measured times and memory.
    """

    method: str
    epochs: int
    batch_size: int
    precision: str
    setup_s: float
    checkpoints: int
    measured: TrainingMeasurement

    def seconds(self, step: Callable[[PhaseTime], float] = lambda phase: phase.step_s) -> float:
        """Return the time of the whole stage, with steps of the given time."""
        measured, total = self.measured, self.setup_s
        for phase in measured.phases:
            steps = measured.steps_per_epoch * step(phase)
            total += phase.epochs * (phase.begin_s + phase.first_s + steps + phase.end_s)
        return total + self.epochs * measured.evaluation_s + self.checkpoints * measured.checkpoint_s


@dataclass(frozen=True)
class Estimate:
    """The time and memory of a whole training.

    Attributes:
        stages: the trainings in their order.
        data: name of the data set.
        train_size: images of a training epoch.
        measuring_s: seconds that measuring took.
        is_first: whether this process prints, of several.
    """

    stages: tuple[StageEstimate, ...]
    data: str
    train_size: int
    measuring_s: float
    is_first: bool = True

    @property
    def seconds(self) -> tuple[float, float, float]:
        """Time of the whole training: with the median step, and with the 10th and 90th percentile."""
        return (
            sum(stage.seconds() for stage in self.stages),
            sum(stage.seconds(lambda phase: phase.low_s) for stage in self.stages),
            sum(stage.seconds(lambda phase: phase.high_s) for stage in self.stages),
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        middle, low, high = self.seconds
        values = asdict(self)
        values.pop("is_first")
        for entry, stage in zip(values["stages"], self.stages, strict=True):
            entry["seconds"] = stage.seconds()
        top = max(self.stages, key=lambda stage: stage.measured.host_bytes).measured
        device = [s.measured.device_bytes for s in self.stages if s.measured.device_bytes is not None]
        return {
            "estimate": True,
            "hours": middle / 3600,
            "low_hours": low / 3600,
            "high_hours": high / 3600,
            "device_bytes": max(device) if device else None,
            "host_bytes": top.host_bytes,
            "workers_bytes": max(stage.measured.workers_bytes for stage in self.stages),
            **values,
        }


def estimate(
    request: TrainRequest, seconds: float = 60.0, *, say: Callable[[str], None] = lambda text: None
) -> Estimate:
    """Run the steps of a training for about `seconds` and estimate what the whole training will take.

    A method that starts from a trained network starts here from an untrained one: the steps cost the same.
    Everything is written into a folder next to the run's, which is removed again.

    Args:
        request: as for `run_training`; its run folder is neither read nor made.
        seconds: for the steps of all stages; evaluation and set-up come on top.
        say: receives messages about what is being measured.

    Raises:
        CompressError: as `run_training`; ``out-of-memory`` if the training would not fit.
    """
    if seconds < MIN_SECONDS:
        raise CompressError(
            f"--estimate-seconds {seconds:g} is too short to measure anything",
            hint=f"give at least {MIN_SECONDS:g}; the default is 60",
            code="bad-option",
        )
    began = time.perf_counter()
    run = prepare_run(resolve(replace(request, resume=False)))
    setup_s = time.perf_counter() - began
    stages = tuple(
        _measure_stage(stage, run, seconds / len(run.stages), setup_s, say) for stage in run.stages
    )
    info = run.data.info
    return Estimate(
        stages, info.name, info.train_size, time.perf_counter() - began, is_first=is_first_process()
    )


def _measure_stage(
    stage: ResolvedRequest, run: PreparedRun, seconds: float, setup_s: float, say: Callable[[str], None]
) -> StageEstimate:
    """Prepare a stage as a training does, and measure it."""
    config = stage.config
    say(f"measuring {stage.method.name}: {seconds:.0f} s of the {config.epochs} epochs")
    began = time.perf_counter()
    method = run.dense_method() if stage is run.dense else run.method()
    setup_s += time.perf_counter() - began
    place = _existing_parent(stage.out)
    with (
        explain_write_errors(place),
        tempfile.TemporaryDirectory(prefix=".estimate-", dir=place) as folder,
        RunFolder.create(Path(folder) / "run", stage_record(stage, run.network, run, None)) as run_folder,
    ):
        phases = method.phases(config.epochs)
        measured = measure_training(
            method.model, method, run.data, config, run_folder, phases=phases, seconds=seconds
        )
    checkpoints = -(-config.epochs // config.checkpoint_every)
    return StageEstimate(
        method.name, config.epochs, config.batch_size, config.precision, setup_s, checkpoints, measured
    )


def _existing_parent(out: Path) -> Path:
    """Return the nearest existing folder above the run's, on whose disk the checkpoints will be."""
    return next(folder for folder in out.absolute().parents if folder.is_dir())
