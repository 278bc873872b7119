"""A minimal ImageNet training: JPEGs, random resized crops of 224 pixels, an average, two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from training_job import ROOT

import compress
from benchmarks.image_folders import image_folder
from compress.artifact import RunFolder
from compress.training import load_checkpoint, read_metrics

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """The run folder of two epochs by two processes, and what the command printed."""
    top = tmp_path_factory.mktemp("imagenet")
    image_folder(top / "set", train=24, val=9, size=(300, 240))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = [
        "-m",
        "compress",
        "train",
        "--model",
        "vgg_small",
        "--data",
        f"folder:{top / 'set'}",
        "--workers",
        "1",
    ]
    words += ["--target", "macs=0.3", "--epochs", "2", "--batch-size", "8", "--lr", "0.02", "--ema", "0.9"]
    words += ["--device", "cpu", "--out", str(top / "run"), "--json"]
    done = subprocess.run(
        [*command, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=top,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1, done.stdout
    return top / "run", json.loads(done.stdout)


def test_two_processes_end_in_one_run_folder(trained: tuple[Path, dict[str, object]]) -> None:
    run, result = trained
    assert result["run"] == str(run)
    assert [row["epoch"] for row in read_metrics(run / "metrics.jsonl")] == [1, 2]
    record = RunFolder.open(run).record
    assert record.model.input_size == (3, 224, 224)
    assert record.data.preprocess.resize == 256
    assert record.data.augmentation.startswith("random resized crop")
    assert (record.data.train_size, record.data.test_size) == (24, 9)


def test_the_average_is_what_was_saved_and_is_exact(trained: tuple[Path, dict[str, object]]) -> None:
    run, result = trained
    state = load_checkpoint(RunFolder.open(run))
    assert state["ema"]["updates"] == 2 * 3  # 24 images, 8 a step
    verify = result["verify"]
    assert isinstance(verify, dict) and verify["compact_vs_trained"]["passed"]
    compact = compress.load(run).state_dict()
    assert state["ema"]["model"]["classifier.bias"].equal(compact["classifier.bias"])
    assert not state["model"]["classifier.bias"].equal(compact["classifier.bias"])
