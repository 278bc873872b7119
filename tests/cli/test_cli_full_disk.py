"""On a full disk, commands fail with path and free space and leave no half-written file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_calls import NETWORK, Here, content

ROOM = 4 * 1024
"""Bytes that stay free: enough for a folder and the beginning of a file."""


@pytest.fixture
def full(small_disk: Callable[[int], Path], trained: tuple[Path, object]) -> Path:
    """A copy of the shared run on a disk that is full."""
    size = sum(path.stat().st_size for path in trained[0].rglob("*") if path.is_file())
    disk = small_disk(size // 1024 + 256)
    shutil.copytree(trained[0], disk / "run")
    free = shutil.disk_usage(disk).free
    (disk / "ballast").write_bytes(b"\0" * (free - ROOM))
    return disk


@pytest.mark.parametrize(
    "words",
    [
        ("slice", *NETWORK, "--target", "macs=0.5", "--out", "{disk}/cut"),
        ("train", *NETWORK, "--target", "macs=0.5", "--epochs", "1", "--out", "{disk}/new"),
        ("export", "{disk}/run"),
        ("report", "{disk}/run"),
        ("bench", "{disk}/run", "--backend", "torch", "--threads", "1", "--pairs", "10", "--sessions", "2"),
    ],
    ids=lambda words: words[0],
)
def test_commands_report_a_full_disk_and_leave_no_partial_file(
    words: tuple[str, ...], full: Path, call: Here
) -> None:
    before = content(full)
    result = call(*(word.format(disk=full) for word in words), "--json")
    assert result.code == 3, result.out + result.err
    error = result.json["error"]
    assert error["code"] == "disk-full"
    assert str(full) in error["message"] and "MB are free" in error["message"]
    assert "free some space" in error["hint"]
    after = content(full)
    assert {name: after[name] for name in before} == before
    new = [name for name in after if name not in before and not name.startswith("new/tensorboard/")]
    assert set(new) <= {"new/run.json", "new/metrics.jsonl"}  # what a resume of the training goes on with
