"""Fixtures of the tests of the pipeline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_training import REQUEST, SETTINGS, Make

from compress.pipeline import TrainRequest, TrainResult, run_training


@pytest.fixture
def request_for(tmp_path: Path) -> Make:
    """Makes a request for a tiny training into `run`; what is given replaces the usual."""

    def make(*, settings: dict[str, Any] | None = None, **changes: Any) -> TrainRequest:
        usual = replace(REQUEST, out=tmp_path / "run", settings=SETTINGS | (settings or {}))
        return replace(usual, **changes)

    return make


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A finished training of three epochs."""
    out = tmp_path_factory.mktemp("trained") / "run"
    return run_training(
        replace(REQUEST, out=out, settings=SETTINGS | {"epochs": 3}), command=["compress", "train"]
    )
