"""What a training will take: its own steps are run for a minute, and the rest is arithmetic that is shown."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from compress.artifact import RunFolder, new_record
from compress.core.console import is_first_process
from compress.core.errors import CompressError
from compress.core.files import explain_write_errors
from compress.data import ImageData
from compress.pipeline.plan import plan_training
from compress.pipeline.request import Resolved, TrainRequest, resolve
from compress.pipeline.start import after_dense, dense_request, needs_dense
from compress.pipeline.training import load_data, setup_for, shapes
from compress.training.device import resolve_device
from compress.training.estimate import Measured, PhaseTime, measure

LEAST_SECONDS = 1.0
"""Shortest measurement."""


@dataclass(frozen=True)
class Stage:
    """One training of a run: the method's, or that of the dense network before it.

    Attributes:
        method: its name. epochs: how many. batch_size: images a step, of all processes together.
        setup_s: building, tracing and preparing the network. checkpoints: how many are written.
        measured: what was measured of it.
    """

    method: str
    epochs: int
    batch_size: int
    precision: str
    setup_s: float
    checkpoints: int
    measured: Measured

    def seconds(self, step: Callable[[PhaseTime], float] = lambda phase: phase.step_s) -> float:
        """The whole stage, with steps of the given time."""
        found, total = self.measured, self.setup_s
        for phase in found.phases:
            steps = found.steps_per_epoch * step(phase)
            total += phase.epochs * (phase.begin_s + phase.first_s + steps + phase.end_s)
        return total + self.epochs * found.evaluation_s + self.checkpoints * found.checkpoint_s


@dataclass(frozen=True)
class Estimate:
    """The time and memory of a whole training.

    Attributes:
        stages: in their order.
        data, train_size: the images, and how many a training epoch has.
        measuring_s: how long measuring took. is_first: whether this process prints, of several.
    """

    stages: tuple[Stage, ...]
    data: str
    train_size: int
    measuring_s: float
    is_first: bool = True

    @property
    def seconds(self) -> tuple[float, float, float]:
        """The whole training: with the median step, and with those of the fastest and slowest tenth."""
        return (
            sum(stage.seconds() for stage in self.stages),
            sum(stage.seconds(lambda phase: phase.low_s) for stage in self.stages),
            sum(stage.seconds(lambda phase: phase.high_s) for stage in self.stages),
        )

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON types."""
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
    """Run the steps of a training for about `seconds`, and say what all of it will take.

    The network of a method that begins with a trained one begins here with an untrained one: the steps cost
    the same. Everything is written into a folder beside the run's, which is removed again.

    Args:
        request: as for `train`; its run folder is neither read nor made.
        seconds: for the steps of all stages; evaluation and set-up come on top.
        say: told what is being measured.

    Raises:
        CompressError: as `train`; ``out-of-memory`` tells that the training would not fit.
    """
    if seconds < LEAST_SECONDS:
        raise CompressError(
            f"--estimate-seconds {seconds:g} is too short to measure anything",
            hint=f"give at least {LEAST_SECONDS:g}; the default is 60",
            code="bad-option",
        )
    began = time.perf_counter()
    resolved = resolve(replace(request, resume=False))
    resolve_device(resolved.config)
    parts = [resolved]
    if needs_dense(resolved):
        parts = [resolve(replace(dense_request(resolved), resume=False)), after_dense(resolved, None)]
    data = load_data(resolved)
    assert data is not None
    stages = tuple(_stage(part, data, seconds / len(parts), say) for part in parts)
    return Estimate(
        stages,
        data.info.name,
        data.info.train_size,
        time.perf_counter() - began,
        is_first=is_first_process(),
    )


def _stage(resolved: Resolved, data: ImageData, seconds: float, say: Callable[[str], None]) -> Stage:
    """Prepare a training as `train` does, and measure it."""
    config = resolved.config
    say(f"measuring {resolved.method.name}: {seconds:.0f} s of the {config.epochs} epochs")
    began = time.perf_counter()
    planned = plan_training(resolved, *shapes(resolved, data))
    method = resolved.method(resolved.options)
    method.setup = setup_for(resolved, planned, data)
    method.check(planned.graph)
    torch.manual_seed(config.seed)
    prepared = method.prepare(planned.model, planned.graph, planned.plan)
    setup_s = time.perf_counter() - began
    record = new_record(
        model=planned.spec,
        data=data.info,
        dense=planned.graph.costs,
        target=resolved.target or "",
        seed=config.seed,
        method=method.name,
        settings=resolved.settings(),
    )
    place = _existing(resolved.out)
    with (
        explain_write_errors(place),
        tempfile.TemporaryDirectory(prefix=".estimate-", dir=place) as folder,
        RunFolder.create(Path(folder) / "run", record) as run,
    ):
        measured = measure(
            prepared.model, method, data, config, run, phases=method.phases(config.epochs), seconds=seconds
        )
    checkpoints = -(-config.epochs // config.checkpoint_every)
    return Stage(
        method.name, config.epochs, config.batch_size, config.precision, setup_s, checkpoints, measured
    )


def _existing(out: Path) -> Path:
    """The folder, of those above the run's, that is there: its disk is the one that checkpoints go to."""
    return next(folder for folder in out.absolute().parents if folder.is_dir())
