"""Metrics are sent to the selected tracker; stand-in packages record the calls to wandb and mlflow."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import training_job

from compress.core.errors import CompressError, Exit
from compress.training import metrics


def test_no_tracker_writes_no_event_files(tmp_path: Path) -> None:
    result = training_job.train(tmp_path / "run", epochs=1, tensorboard=True, track="none")
    assert not (tmp_path / "run" / "tensorboard").exists()
    assert [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()] == result.history


@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_missing_package_of_a_tracker_is_named(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CompressError, match=f"needs the package {package}") as error:
        training_job.train(tmp_path / "run", epochs=1, track=package)
    assert (error.value.code, error.value.exit) == ("missing-package", Exit.MISSING)
    assert f"pip install {package}" in error.value.hint


def test_wandb_receives_the_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, Any]] = []

    class Run:
        def log(self, values: dict[str, Any], step: int | None = None, **more: Any) -> None:
            calls.append(("log", (step, values)))

        def finish(self) -> None:
            calls.append(("finish", None))

    def init(**arguments: Any) -> Run:
        calls.append(("init", arguments))
        return Run()

    module = types.ModuleType("wandb")
    module.init = init  # type: ignore[attr-defined]
    module.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "wandb", module)
    result = training_job.train(tmp_path / "run", epochs=2, track="wandb")
    assert [name for name, _ in calls] == ["init", "log", "log", "finish"]
    assert calls[0][1]["project"] == "compress" and calls[0][1]["name"] == "run"
    assert [step for _, (step, _) in calls[1:3]] == [1, 2]
    logged = calls[2][1][1]
    assert logged == {key: value for key, value in result.history[1].items() if key != "epoch"}
