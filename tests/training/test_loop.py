"""The training loop: results, log and checkpoints, and how it stops on errors."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import training_job
from pydantic import ValidationError
from torch import nn
from training_job import JOB, ROOT

from compress import data as images
from compress.artifact import RunFolder
from compress.core.errors import CompressError, Exit
from compress.training import (
    LineProgress,
    NoProgress,
    PlainMethod,
    TrainConfig,
    evaluate,
    load_checkpoint,
    progress_for,
    restore,
)


def test_a_small_network_learns_the_digits(tmp_path: Path) -> None:
    result = training_job.train(tmp_path / "run", epochs=8)
    assert result.top1 > 0.85
    assert result.best_top1 == max(row["test_top1"] for row in result.history)


def test_same_seed_gives_the_same_weights_and_another_seed_does_not(tmp_path: Path) -> None:
    first, second, other = (
        training_job.train(tmp_path / name, epochs=1, seed=seed).model.state_dict()
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["10.weight"], other["10.weight"])


def test_log_has_the_promised_fields(tmp_path: Path) -> None:
    training_job.train(tmp_path / "run", epochs=1)
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    fields = ["train_loss", "train_top1", "test_loss", "test_top1", "test_top5", "lr", "seconds"]
    assert list(row) == ["epoch", *fields, "images_per_second"]


def test_tensorboard_has_the_log_again(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = training_job.train(tmp_path / "run", epochs=2, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("test_top1")] == [1, 2]
    assert [event.value for event in events.Scalars("test_top1")] == pytest.approx(
        [row["test_top1"] for row in result.history]
    )


def test_averaged_weights_are_evaluated_and_remain_in_the_model(tmp_path: Path) -> None:
    result = training_job.train(tmp_path / "run", epochs=1, ema=0.9)
    state = load_checkpoint(RunFolder.open(tmp_path / "run"))
    weights = result.model.state_dict()
    assert torch.equal(weights["10.weight"], state["ema"]["model"]["10.weight"])
    assert not torch.equal(weights["10.weight"], state["model"]["10.weight"])
    data = images.load("digits", training_job.SIZE)
    again = evaluate(result.model, data.test_batches(batch_size=64), "cpu", 10)
    assert again.top1 == result.top1


def test_restore_gives_the_best_weights(tmp_path: Path) -> None:
    result = training_job.train(tmp_path / "run", epochs=3)
    model = training_job.network()
    assert restore(RunFolder.open(tmp_path / "run"), model, which="best") == result.best_epoch
    data = images.load("digits", training_job.SIZE)
    top1 = evaluate(model, data.test_batches(batch_size=360), "cpu", 10, channels_last=True).top1
    assert top1 == result.best_top1


def test_last_epoch_is_saved_whatever_the_interval(tmp_path: Path) -> None:
    training_job.train(tmp_path / "run", epochs=3, checkpoint_every=2)
    assert load_checkpoint(RunFolder.open(tmp_path / "run"))["epoch"] == 3


@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "bf16"},
        {"optimizer": "adamw", "lr": 0.005, "warmup": "geometric"},
        {"optimizer": "adamax", "lr": 0.01, "eps": 1e-7},
        {"channels_last": False, "nesterov": True, "label_smoothing": 0.1, "schedule": "constant"},
    ],
    ids=str,
)
def test_settings_train(settings: dict[str, Any], tmp_path: Path) -> None:
    result = training_job.train(tmp_path / "run", epochs=2, **settings)
    assert result.history[1]["train_loss"] < result.history[0]["train_loss"]


def test_mixed_precision_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = training_job.network()
    attributes = set(model.__dict__)
    training_job.train(tmp_path / "run", epochs=1, precision="bf16", model=model)
    assert set(model.__dict__) == attributes
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_precision_can_change_between_trainings_in_one_process(tmp_path: Path) -> None:
    training_job.train(tmp_path / "a", epochs=1, precision="bf16")
    assert training_job.train(tmp_path / "b", epochs=1, precision="fp32").epochs == 1


def test_fp16_on_a_cpu_is_refused_with_the_alternative(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="'fp16' cannot be trained on device 'cpu'") as error:
        training_job.train(tmp_path / "run", precision="fp16")
    assert "bf16" in error.value.hint


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_missing_device_is_named(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="device 'cuda' is not available") as error:
        training_job.train(tmp_path / "run", device="cuda")
    assert error.value.exit == Exit.MISSING


class Diverging(PlainMethod):
    """A loss that is not a number from a step of an epoch on."""

    def __init__(self, epoch: int, step: int) -> None:
        self._at = (epoch, step)
        self._now = [0, 0]

    def begin_epoch(self, model: nn.Module, epoch: int, epochs: int) -> None:
        self._now = [epoch + 1, 0]

    def loss(self, model: Any, inputs: Any, outputs: Any, targets: Any, criterion: Any) -> torch.Tensor:
        self._now[1] += 1
        value: torch.Tensor = criterion(outputs, targets)
        return value * (math.nan if tuple(self._now) == self._at else 1.0)


def test_non_finite_loss_names_epoch_step_and_rate_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match=r"epoch 2, step 3 \(learning rate") as error:
        training_job.train(tmp_path / "run", method=Diverging(2, 3))
    assert error.value.code == "non-finite"
    assert "--lr" in error.value.hint
    state = load_checkpoint(RunFolder.open(tmp_path / "run"))
    assert state["epoch"] == 1
    assert all(torch.isfinite(value).all() for value in state["model"].values())


def test_absurd_learning_rate_stops_with_the_same_error(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="not finite"):
        training_job.train(tmp_path / "run", lr=1e30, warmup_epochs=0)


def test_wrong_number_of_classes_is_named(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 7))
    with pytest.raises(CompressError, match=r"output is \[96, 7\], the data have 10 classes") as error:
        training_job.train(tmp_path / "run", model=model)
    assert "--num-classes 10" in error.value.hint


def test_folder_opened_for_reading_is_refused(tmp_path: Path) -> None:
    from compress.training import fit

    training_job.train(tmp_path / "run", epochs=1)
    config = TrainConfig.model_validate(training_job.SETTINGS | {"epochs": 1})
    data = images.load("digits", training_job.SIZE)
    with pytest.raises(CompressError, match="not opened for writing"):
        fit(training_job.network(), PlainMethod(), data, config, RunFolder.open(tmp_path / "run"))


class StopAfterFirstEpoch(NoProgress):
    """Interrupts the training once an epoch is saved."""

    def epoch(self, row: dict[str, Any]) -> None:
        raise KeyboardInterrupt


def test_full_disk_is_named_and_the_old_checkpoints_stay(tmp_path: Path) -> None:
    """A limit on the size of a file makes the second epoch's checkpoint fail as a full disk does."""
    with pytest.raises(CompressError, match="interrupted"):
        training_job.train(tmp_path / "run", epochs=2, progress=StopAfterFirstEpoch())
    checkpoints = tmp_path / "run" / "checkpoints"
    before = {path.name: path.read_bytes() for path in checkpoints.iterdir()}
    limited = (
        "import resource, signal, sys;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY));"
        f"sys.path.insert(0, {str(JOB.parent)!r}); import training_job;"
        "sys.exit(training_job.main(sys.argv[1:]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", limited, str(tmp_path / "run"), "--resume", "epochs=2"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    error = json.loads(ended.stderr.splitlines()[-1])
    assert (ended.returncode, error["code"]) == (Exit.MISSING, "disk-full")
    assert str(checkpoints) in error["message"]
    assert {path.name: path.read_bytes() for path in checkpoints.iterdir()} == before


def test_one_line_an_epoch_where_there_is_no_terminal(tmp_path: Path) -> None:
    stream = io.StringIO()
    progress = progress_for(stream)
    assert isinstance(progress, LineProgress)
    training_job.train(tmp_path / "run", epochs=2, progress=progress)
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["1/2", "2/2"]


def test_bar_shows_time_left_on_a_terminal(tmp_path: Path) -> None:
    from rich.console import Console

    from compress.training import BarProgress

    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    training_job.train(tmp_path / "run", epochs=1, progress=BarProgress(console))
    assert "epoch 1/1" in stream.getvalue() and "left" in stream.getvalue()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 0}, "epochs"),
        ({"lr": 0}, "lr"),
        ({"lr": float("nan")}, "lr"),
        ({"precision": "fp8"}, "precision"),
        ({"warmup_epochs": 5, "epochs": 5}, "warmup_epochs 5 must be less than epochs 5"),
        ({"nesterov": True, "optimizer": "adamw"}, "nesterov needs"),
        ({"min_lr": 1.0}, "min_lr 1 must not be above"),
        ({"leaning_rate": 1.0}, "leaning_rate"),
    ],
    ids=str,
)
def test_impossible_settings_are_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TrainConfig.model_validate(settings)
