"""A small real training on the digits: a function, and a program a test can kill or run under torchrun.

`python training_job.py OUT [--resume] [--pause-at EPOCH:STEP] [name=value ...]` trains; with `--pause-at` it
makes the file `OUT.paused` at that step (both from 1) and waits to be killed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compress import data as images
from compress.artifact import RunFolder, RunRecord, new_record
from compress.core.errors import CompressError
from compress.core.spec import Costs, ModelSpec
from compress.training import FitResult, NoProgress, PlainMethod, TrainConfig, fit

ROOT = Path(__file__).resolve().parents[2]
JOB = Path(__file__)
SIZE = (1, 12, 12)
SETTINGS: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 96,
    "lr": 0.05,
    "schedule": "cosine",
    "warmup_epochs": 0.5,
    "device": "cpu",
    "tensorboard": False,
}


def network(*, dropout: float = 0.2) -> nn.Module:
    """Small CNN with the state that a resume must restore: running statistics and dropout."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(64, 10),
    )


def record_for(config: TrainConfig) -> RunRecord:
    """A run record for the job."""
    return new_record(
        model=ModelSpec(name="vgg_small", num_classes=10, input_size=SIZE),
        data=images.load("digits", SIZE).info,
        dense=Costs(macs=1, params=1),
        target="macs=1",
        seed=config.seed,
        method="plain",
        settings=config.model_dump(mode="json"),
    )


def train(
    out: Path,
    *,
    resume: bool = False,
    progress: NoProgress | None = None,
    method: PlainMethod | None = None,
    model: nn.Module | None = None,
    profile: bool = False,
    **settings: Any,
) -> FitResult:
    """Train the small network into `out`."""
    config = TrainConfig.model_validate(SETTINGS | settings)
    with RunFolder.create(out, record_for(config), resume=resume) as run:
        return fit(
            model if model is not None else network(),
            method if method is not None else PlainMethod(),
            images.load("digits", SIZE),
            config,
            run,
            resume=resume,
            progress=progress,
            profile=profile,
        )


class Job:
    """Runs the training job as a program."""

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start it."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, str(JOB), *arguments], env=environment, stderr=subprocess.PIPE, text=True
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run it to its end; return exit code and stderr."""
        process = self.start(*arguments)
        _, errors = process.communicate(timeout=300)
        return process.returncode, errors

    def start_paused(self, out: Path, at: str, *arguments: str) -> subprocess.Popen[str]:
        """Start it and return when it waits at `EPOCH:STEP`."""
        process = self.start(str(out), "--pause-at", at, *arguments)
        deadline = time.monotonic() + 300
        while not Path(f"{out}.paused").exists():
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            assert time.monotonic() < deadline, "the job did not reach its pause"
            time.sleep(0.1)
        return process


class PauseAt(NoProgress):
    """Progress that waits at a step of an epoch until the process is killed."""

    def __init__(self, epoch: int, step: int, marker: Path) -> None:
        self._target = (epoch, step)
        self._at = [1, 0]
        self._marker = marker

    def start(self, epochs: int, steps_per_epoch: int, finished: int) -> None:
        self._at = [finished + 1, 0]

    def step(self, images: int, loss: float | None) -> None:
        self._at[1] += 1
        if tuple(self._at) == self._target:
            self._marker.touch()
            time.sleep(300)

    def epoch(self, row: dict[str, Any]) -> None:
        self._at = [int(row["epoch"]) + 1, 0]


def main(arguments: list[str]) -> int:
    """Run the program; an error is one line of JSON on stderr."""
    out = Path(arguments.pop(0))
    resume = "--resume" in arguments
    progress = None
    if "--pause-at" in arguments:
        epoch, step = arguments[arguments.index("--pause-at") + 1].split(":")
        progress = PauseAt(int(epoch), int(step), Path(f"{out}.paused"))
    settings = {key: json.loads(value) for key, _, value in (a.partition("=") for a in arguments) if value}
    try:
        train(out, resume=resume, progress=progress, **settings)
    except CompressError as error:
        print(json.dumps({"code": error.code, "message": str(error)}), file=sys.stderr)
        return int(error.exit)
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(sys.argv[1:]))
