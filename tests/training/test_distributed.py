"""Two processes with half the batch each train like one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import training_job
from training_job import JOB, ROOT

from compress.artifact import RunFolder
from compress.training import load_checkpoint, read_metrics


def torchrun(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*command, str(JOB), str(out), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_two_processes_give_the_metrics_of_one_within_noise(tmp_path: Path) -> None:
    training_job.train(tmp_path / "one", epochs=3)
    ended = torchrun(tmp_path / "two", "epochs=3")
    assert ended.returncode == 0, ended.stderr
    one, two = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "two"))
    assert [row["epoch"] for row in two] == [1, 2, 3]
    assert [row["lr"] for row in two] == pytest.approx([row["lr"] for row in one])
    assert two[-1]["train_loss"] == pytest.approx(one[-1]["train_loss"], rel=0.25)
    assert two[-1]["test_top1"] == pytest.approx(one[-1]["test_top1"], abs=0.08)


@pytest.mark.slow
def test_two_processes_resume_and_one_reads_their_checkpoint(tmp_path: Path) -> None:
    assert torchrun(tmp_path / "run", "epochs=1", "ema=0.9").returncode == 0
    again = torchrun(tmp_path / "run", "epochs=1", "ema=0.9", "--resume")
    assert again.returncode == 0, again.stderr
    state = load_checkpoint(RunFolder.open(tmp_path / "run"))
    training_job.network().load_state_dict(state["model"])
    assert all(torch.isfinite(value).all() for value in state["model"].values())


def test_batch_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    ended = torchrun(tmp_path / "run", "epochs=1", "batch_size=33")
    assert ended.returncode != 0
    assert "batch size 33 cannot be shared by 2 processes" in ended.stderr
