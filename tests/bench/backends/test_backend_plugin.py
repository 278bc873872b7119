"""A back end added by another package's entry point."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = """
from compress.bench.backends import BACKENDS, Backend
from compress.bench.backends.ort import OrtCpuRunner


class Mine(Backend):
    name = "mine"
    summary = "ONNX Runtime under another name"
    packages = {"onnxruntime": "onnxruntime"}
    reads = (".onnx",)

    def load(self, path, config):
        return OrtCpuRunner(path, config)

    def describe_timing(self, config):
        return "one session.run of my back end"
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that has the package installed."""
    folder = tmp_path / "site"
    info = folder / "mine-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "mine_backend.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[compress.backends]\nmine = mine_backend:Mine\n")
    path = os.pathsep.join([str(folder), *(part for part in sys.path if part)])
    return {**os.environ, "PYTHONPATH": path}


def run_cli(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "compress", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


def test_bench_measures_with_a_back_end_of_another_package(run: Path, environment: dict[str, str]) -> None:
    done = run_cli(
        environment, "bench", str(run), "--backend", "mine", "--pairs", "10", "--sessions", "1", "--json"
    )
    assert done.returncode == 0, done.stderr
    comparison = json.loads(done.stdout)["result"]["comparisons"][0]
    assert (comparison["backend"], comparison["timed"]) == ("mine", "one session.run of my back end")
    assert comparison["batches"][0]["candidate"]["peak_bytes"] > 0


def test_help_and_errors_list_a_back_end_of_another_package(run: Path, environment: dict[str, str]) -> None:
    assert "mine" in run_cli(environment, "bench", "run", "--help").stdout
    done = run_cli(environment, "bench", str(run), "--backend", "min", "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (2, "unknown-backend")
    assert "Did you mean mine?" in error["hint"]
