"""Fixtures of the tests of methods: small trainings on the digits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compress.pipeline import TrainRequest, TrainResult, run_training

SETTINGS: dict[str, Any] = {"batch_size": 96, "lr": 0.05, "tensorboard": False, "device": "cpu"}

Run = Callable[..., TrainResult]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Train `vgg_small` (or another model) on small digits into `tmp_path / name`."""

    def start(
        method: str,
        epochs: int,
        *,
        name: str = "run",
        target: str | None = "macs=0.5",
        seed: int = 0,
        model: str = "vgg_small",
        settings: dict[str, Any] | None = None,
        **request: Any,
    ) -> TrainResult:
        messages = request.pop("said", None)
        return run_training(
            TrainRequest(
                method=method,
                model=model,
                data="digits",
                input_size=(3, 8, 8),
                target=target,
                settings={**SETTINGS, "epochs": epochs, "seed": seed, **(settings or {})},
                out=tmp_path / name,
                **request,
            ),
            say=messages.append if messages is not None else lambda text: None,
        )

    return start
