"""The demonstration, run once, for real, as its command."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from compress import artifact, cli
from compress.bench.demo import DemoResult, commands, demo
from compress.bench.results.record import BenchResult
from compress.core.errors import CompressError

ROOT = Path(cli.__file__).parent


@pytest.mark.slow
def test_demo_halves_the_macs_keeps_the_accuracy_and_shows_the_commands(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "compress", "demo", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        capture_output=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result, out = json.loads(done.stdout), tmp_path / "runs" / "demo"
    lines = [line.removeprefix("$ ") for line in done.stderr.splitlines() if line.startswith("$ ")]
    assert lines == commands(Path("runs/demo"))
    check_numbers(result)
    check_runs(out, result, lines)
    check_table(DemoResult(out, tuple(result["rows"]), BenchResult.model_validate_json(results(out))), result)
    with pytest.raises(CompressError, match="already contains a demo"):
        demo(out)


def results(out: Path) -> str:
    return (out / "dcff" / "bench" / "results.json").read_text()


def check_numbers(record: dict[str, object]) -> None:
    """Half the MACs, the accuracy within 3 points, and ratios that belong together."""
    dense, compact = record["rows"]  # type: ignore[misc]
    assert (dense["network"], compact["network"]) == ("dense", "compact")
    assert compact["macs"] / dense["macs"] == pytest.approx(0.5, rel=0.01)
    assert compact["params"] < dense["params"]
    assert compact["bytes"] < dense["bytes"]
    assert dense["top1"] > 0.9
    assert compact["top1"] > dense["top1"] - 0.03
    assert record["mac_reduction"] == pytest.approx(dense["macs"] / compact["macs"])
    assert record["efficiency"] == pytest.approx(record["speedup"] / record["mac_reduction"])  # type: ignore[operator]
    low, high = record["interval"]  # type: ignore[misc]
    assert low <= record["speedup"] <= high


def check_runs(out: Path, result: dict[str, object], lines: list[str]) -> None:
    """Each run records its command, and the compact one loads, is exported and is measured."""
    for name, line in zip(("dense", "dcff"), lines, strict=False):
        record = json.loads((out / name / "run.json").read_text())
        assert record["command"] == line.split()
    loaded = artifact.load(out / "dcff")
    assert sum(p.numel() for p in loaded.parameters()) == result["rows"][1]["params"]  # type: ignore[index]
    assert (out / "dcff" / "export" / "model.onnx").is_file()


def check_table(result: DemoResult, record: dict[str, object]) -> None:
    """What people see has the numbers that machines get."""
    assert result.to_json() == {
        key: record[key] for key in record if key not in ("schema_version", "command")
    } | {"out": str(result.out)}
    text = io.StringIO()
    Console(file=text, width=160).print(*result.parts())
    for row in result.rows:
        assert f"{row['macs']:,}" in text.getvalue()
        assert f"{row['top1']:.2%}" in text.getvalue()
    assert f"speed-up {record['speedup']:.2f}x" in text.getvalue()
    for word in ("MACs", "parameters", "top-1", "size", "latency", "speed-up efficiency"):
        assert word in text.getvalue()


def test_a_demo_takes_the_first_free_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(Exception):
        pass

    def stop(line: str) -> None:
        lines.append(line)
        raise Stopped

    lines: list[str] = []
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        with pytest.raises(Stopped):
            demo(say=stop)
        (tmp_path / "runs" / "demo" / "dense").mkdir(parents=True, exist_ok=True)
    assert [line.split()[-1] for line in lines] == [
        str(Path("runs/demo/dense")),
        str(Path("runs/demo-2/dense")),
    ]
