"""Failures of a long training are reported with what is saved; the last checkpoint can be resumed."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import training_job
from PIL import Image

from compress import data as images
from compress.artifact import RunFolder, new_record
from compress.core.errors import CompressError, Exit
from compress.core.files import write_bytes
from compress.core.spec import Costs, ModelSpec
from compress.training import NoProgress, PlainMethod, TrainConfig, fit, load_checkpoint, read_metrics
from compress.training.faults import explain_failure

CONFIG = TrainConfig(batch_size=96, device="cpu")


class FailsIn(PlainMethod):
    """Runs `what` in the first step of an epoch (from 0)."""

    def __init__(self, epoch: int, what: Callable[[], None]) -> None:
        self._at, self._epoch, self._what = epoch, -1, what

    def begin_epoch(self, model: Any, epoch: int, epochs: int) -> None:
        self._epoch = epoch

    def loss(self, model: Any, inputs: Any, outputs: Any, targets: Any, criterion: Any) -> Any:
        if self._epoch == self._at:
            self._what()
        return super().loss(model, inputs, outputs, targets, criterion)


def too_much() -> None:
    torch.empty(2**50)


def lost() -> None:
    raise torch.AcceleratorError(
        "CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be asynchronously reported"
    )


@pytest.mark.parametrize(
    ("what", "code", "words"),
    [
        (too_much, "out-of-memory", "batch size 96, precision fp32: .*tried to allocate 4503599627370496"),
        (lost, "device-lost", "the device failed: CUDA error: uncorrectable ECC error encountered;"),
    ],
)
def test_failure_in_the_second_epoch_keeps_the_first_and_resumes(
    what: Callable[[], None], code: str, words: str, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"epochs": 2, "ema": 0.9}
    whole = training_job.train(tmp_path / "whole", **settings)
    with pytest.raises(CompressError, match=words) as caught:
        training_job.train(tmp_path / "run", method=FailsIn(1, what), **settings)
    error = caught.value
    assert (error.code, error.exit) == (code, Exit.MISSING)
    assert "1 of 2 epochs are saved" in error.message and str(tmp_path / "run") in error.message
    assert "--resume" in error.hint
    assert (error.details["finished"], error.details["epochs"]) == (1, 2)
    again = training_job.train(tmp_path / "run", resume=True, **settings)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "out-of-memory"),
        (torch.AcceleratorError("CUDA error: out of memory"), "out-of-memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "out-of-memory"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9.06 GB)"), "out-of-memory"),
        (MemoryError(), "out-of-memory"),
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), "device-lost"),
        (torch.AcceleratorError("CUDA error: all CUDA-capable devices are busy"), "device-lost"),
        (RuntimeError("CUDA error: device-side assert triggered"), "device-lost"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "device-lost"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
        (ValueError("CUDA error"), None),
    ],
)
def test_torch_errors_map_to_error_codes(error: Exception, code: str | None) -> None:
    result = explain_failure(error, CONFIG) if not isinstance(error, ValueError) else None
    assert (result.code if result else None) == code


def test_other_errors_are_not_changed(tmp_path: Path) -> None:
    def bug() -> None:
        torch.ones(2, 3) @ torch.ones(2, 3)

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        training_job.train(tmp_path / "run", epochs=1, method=FailsIn(0, bug))


class KillsAWorker(NoProgress):
    """Kills one process that decodes, in the second epoch."""

    def __init__(self) -> None:
        self._epochs = 0
        self._others = set(psutil.Process().children(recursive=True))

    def epoch(self, row: dict[str, Any]) -> None:
        self._epochs += 1

    def step(self, images: int, loss: float | None) -> None:
        if self._epochs == 1:
            own = set(psutil.Process().children(recursive=True)) - self._others
            os.kill(min(child.pid for child in own), signal.SIGKILL)


def test_a_killed_worker_is_reported_and_the_training_resumes_from_its_last_epoch(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for part, count in (("train", 12), ("val", 4)):
        for number in range(count):
            where = tmp_path / "set" / part / f"c{number % 2}"
            where.mkdir(parents=True, exist_ok=True)
            pixels = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(where / f"{number}.jpg")
    config = TrainConfig(epochs=3, batch_size=2, lr=0.01, device="cpu", tensorboard=False)

    def train(progress: NoProgress, resume: bool) -> int:
        source = images.load(f"folder:{tmp_path / 'set'}", (3, 12, 12), workers=2)
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2)
        )
        record = new_record(
            model=ModelSpec(name="vgg_small", num_classes=2, input_size=(3, 12, 12)), data=source.info,
            dense=Costs(macs=1, params=1), target="", seed=0, method="plain",
            settings=config.model_dump(mode="json"),
        )  # fmt: skip
        with RunFolder.create(tmp_path / "run", record, resume=resume) as run:
            return fit(model, PlainMethod(), source, config, run, resume=resume, progress=progress).epochs

    with pytest.raises(
        CompressError, match=r"a process that decodes images .*1 of 3 epochs are saved"
    ) as caught:
        train(KillsAWorker(), resume=False)
    assert (caught.value.code, caught.value.exit) == ("worker-died", Exit.MISSING)
    assert "--workers" in caught.value.hint and "--resume" in caught.value.hint
    assert train(NoProgress(), resume=True) == 3


@pytest.mark.parametrize("tensorboard", [False, True])
def test_a_full_disk_is_named_and_loses_no_finished_epoch(
    small_disk: Callable[[int], Path], tmp_path: Path, tensorboard: bool
) -> None:
    settings: dict[str, Any] = {"epochs": 3, "tensorboard": tensorboard}
    whole = training_job.train(tmp_path / "whole", **settings)
    disk = small_disk(400)
    out, ballast = disk / "run", disk / "ballast"

    class FillsTheDisk(NoProgress):
        def epoch(self, row: dict[str, Any]) -> None:
            if row["epoch"] == 1:
                fill(ballast)

    with pytest.raises(CompressError, match=r"no space is left \(.* MB are free\): cannot write") as caught:
        training_job.train(out, progress=FillsTheDisk(), **settings)
    error = caught.value
    assert (error.code, error.exit) == ("disk-full", Exit.MISSING)
    assert str(out) in error.message and "1 of 3 epochs are saved" in error.message
    assert "free some space" in error.hint and "--resume" in error.hint
    assert load_checkpoint(RunFolder.open(out))["epoch"] == 1
    assert [row["epoch"] for row in read_metrics(out / "metrics.jsonl")][:1] == [1]
    assert (out / "metrics.jsonl").read_text().endswith("\n")
    assert not list(out.rglob("*.tmp"))
    with pytest.raises(CompressError) as still:  # the disk is still full: the same error, and nothing lost
        training_job.train(out, resume=True, **settings)
    assert still.value.code == "disk-full"
    assert load_checkpoint(RunFolder.open(out))["epoch"] == 1
    ballast.unlink()
    again = training_job.train(out, resume=True, **settings)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 1024):
                pass
        except OSError:
            return


def test_a_limit_on_file_sizes_is_named(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"before")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(CompressError, match="a limit on the sizes of files") as caught:
            write_bytes(tmp_path / "file", b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.code == "disk-full" and "raise the limit" in caught.value.hint
    assert (tmp_path / "file").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_partial_files_of_a_killed_process_are_removed_by_the_next(tmp_path: Path) -> None:
    training_job.train(tmp_path / "run", epochs=1)
    for name in ("checkpoints/.last.pt.ab12_x9z.tmp", ".metrics.jsonl.00000000.tmp", "notes.tmp"):
        (tmp_path / "run" / name).write_text("half")
    (tmp_path / "run" / ".compact.zzzzzzzz.tmp").mkdir()
    training_job.train(tmp_path / "run", epochs=1, resume=True)
    assert [path.name for path in (tmp_path / "run").rglob("*.tmp")] == ["notes.tmp"]
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    (fresh / ".run.json.12345678.tmp").write_text("half")  # killed before it had begun
    assert training_job.train(fresh, epochs=1).epochs == 1
    shutil.rmtree(fresh)
