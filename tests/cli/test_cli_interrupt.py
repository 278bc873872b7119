"""Ctrl-C and SIGTERM during training: messages, saved epochs, resuming."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cli_calls import TRAIN, Outcome, arguments, command, environment

from compress.training import read_metrics

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are otherwise there")


def interrupted(words: list[object], cwd: Path, number: signal.Signals) -> Outcome:
    """Send the signal when the first checkpoint is there."""
    process = subprocess.Popen(
        arguments(*words),
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 120
    while not (cwd / "run" / "checkpoints" / "last.pt").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    return Outcome(process.returncode, out, err)


def test_ctrl_c_hints_at_resume_and_resuming_finishes(tmp_path: Path) -> None:
    words = [*TRAIN, "--epochs", 6, "--out", "run"]
    outcome = interrupted(words, tmp_path, signal.SIGINT)
    assert (outcome.code, outcome.out) == (130, "")
    assert "Traceback" not in outcome.err
    assert "error: interrupted; " in outcome.err
    assert "of 6 epochs are saved" in outcome.err
    assert "--resume" in outcome.err
    assert not (tmp_path / "run" / "compact").exists()

    done = command(*words, "--resume", "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.json["epochs"] == 6
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]


def test_sigterm_with_json_is_one_object(tmp_path: Path) -> None:
    words = [*TRAIN, "--epochs", 100, "--out", "run", "--json"]
    outcome = interrupted(words, tmp_path, signal.SIGTERM)
    assert outcome.code == 130
    error = outcome.json["error"]
    assert error["code"] == "interrupted"
    assert error["details"]["epochs"] == 100
    assert error["details"]["finished"] >= 1
