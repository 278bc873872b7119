"""A minimal real training: digits at 8x8 and a small VGG."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from compress.pipeline import TrainRequest

SETTINGS: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 32,
    "lr": 0.05,
    "device": "cpu",
    "tensorboard": False,
}
REQUEST = TrainRequest(model="vgg_small", data="digits", target="macs=0.3", input_size=(1, 8, 8))
Make = Callable[..., TrainRequest]
