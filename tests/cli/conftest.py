"""Fixtures: the command line called in this process, and a run shared by all tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_calls import TRAIN, Here, Outcome, command


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A run of a small network on the digits, and what its command printed. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    outcome = command(*TRAIN, "--epochs", 3, "--out", "run", "--json", cwd=folder)
    assert outcome.code == 0, outcome.err
    return folder / "run", outcome


@pytest.fixture
def run(trained: tuple[Path, Outcome], tmp_path: Path) -> Path:
    """A copy of the shared run that a test may change."""
    return Path(shutil.copytree(trained[0], tmp_path / "run"))


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    """Call the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Here(capfd)


@pytest.fixture
def archive(tmp_path: Path) -> str:
    """Name of data with 10 classes of gray images 8x8, with other statistics than the digits."""
    rng = np.random.default_rng(0)
    path = tmp_path / "other.npz"
    np.savez(
        path,
        x_train=rng.integers(0, 60, (40, 1, 8, 8), dtype=np.uint8),
        y_train=np.arange(40) % 10,
        x_test=rng.integers(0, 60, (50, 1, 8, 8), dtype=np.uint8),
        y_test=np.arange(50) % 10,
    )
    return f"npz:{path}"
