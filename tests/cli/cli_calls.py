"""Ways to call the command line, for the tests of this folder."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import compress
from compress import cli

ROOT = Path(compress.__file__).parents[1]

NETWORK = ("--model", "vgg_small", "--data", "digits", "--input-size", "1,8,8")
TRAIN = ("train", *NETWORK, "--target", "macs=0.5", "--batch-size", "32", "--lr", "0.05")


@dataclass(frozen=True)
class Outcome:
    """What a command did: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on stdout."""
        assert self.out.count("\n") == 1, self.out
        value = json.loads(self.out)
        assert value["schema_version"] == 1
        return value


def environment(**more: str) -> dict[str, str]:
    """This environment, with the program importable from anywhere."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def arguments(*words: object) -> list[str]:
    """The command line of a process."""
    return [sys.executable, "-m", "compress", *map(str, words)]


def command(*words: object, cwd: Path, **more: str) -> Outcome:
    """Call the command line in a process of its own."""
    done = subprocess.run(
        arguments(*words),
        cwd=cwd,
        env=environment(**more),
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


class Here:
    """Call the command line in this process."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *words: object) -> Outcome:
        self._capture.readouterr()
        code = cli.run([str(word) for word in words])
        return Outcome(code, *self._capture.readouterr())


def content(folder: Path) -> dict[str, str]:
    """Path and hash of every file under a folder; the lock is no content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (".lock", ".lock.json")
    }
