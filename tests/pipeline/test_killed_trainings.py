"""A training that is killed at 20 random moments, also while writing, ends with the same result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from compress.artifact import RunFolder
from compress.training import load_checkpoint, read_metrics

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SEED = 20
KILLS = {"dcff": 8, "kdfs": 6, "abp": 6}
CLOCK = ("seconds", "images_per_second")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The runs, and what every kill hit."""
    folder = tmp_path_factory.mktemp("killed")
    program = Path(__file__).with_name("killed_training.py")
    done = subprocess.run(
        [sys.executable, str(program), str(folder), str(SEED), *(f"{m}={n}" for m, n in KILLS.items())],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=840,
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads((folder / "kills.json").read_text())


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def pairs(folder: Path, method: str) -> list[tuple[Path, Path]]:
    """The undisturbed run and each one that was killed; with the dense networks trained first."""
    cuts = [path for path in sorted((folder / method).glob("cut*")) if path.is_dir()]
    assert cuts
    return [((folder / method / f"whole{'-dense' * path.name.endswith('-dense')}"), path) for path in cuts]


def test_there_were_twenty_kills_and_some_struck_in_the_middle_of_a_checkpoint(
    killed: tuple[Path, list[dict[str, Any]]],
) -> None:
    hits = [kill["hit"] for kill in killed[1]]
    assert len(hits) == sum(KILLS.values()) == 20
    assert 4 <= hits.count("time") <= 16
    assert sum("/checkpoints/" in hit for hit in hits) >= 2, hits


@pytest.mark.parametrize("method", KILLS)
def test_weights_checkpoint_and_log_are_those_of_the_undisturbed_training(
    method: str, killed: tuple[Path, list[dict[str, Any]]]
) -> None:
    for whole, cut in pairs(killed[0], method):
        weights = [(run / "compact" / "weights.safetensors").read_bytes() for run in (whole, cut)]
        assert weights[0] == weights[1], cut
        for which in ("last", "best"):
            states = [load_checkpoint(RunFolder.open(run), which) for run in (whole, cut)]
            assert same(*states), (cut, which)
        logs = [
            [{k: v for k, v in row.items() if k not in CLOCK} for row in read_metrics(run / "metrics.jsonl")]
            for run in (whole, cut)
        ]
        assert logs[0] == logs[1]


def test_no_partial_file_remains(killed: tuple[Path, list[dict[str, Any]]]) -> None:
    for method in KILLS:
        for _, cut in pairs(killed[0], method):
            left = [path.name for path in cut.rglob("*") if path.suffix == ".tmp" or path.suffix == ".old"]
            assert left == [], cut
