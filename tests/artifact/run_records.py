"""Records of runs for the tests of this folder."""

from __future__ import annotations

from typing import Any

from compress.artifact import RunRecord, new_record
from compress.core.spec import Costs, DataInfo, ModelSpec, Preprocess


def record(**changes: Any) -> RunRecord:
    """The record of a run, with some of its fields changed."""
    values: dict[str, Any] = {
        "model": ModelSpec(name="resnet20", num_classes=10, input_size=(3, 32, 32)),
        "data": DataInfo(
            name="npz:x.npz",
            classes=tuple("0123456789"),
            train_size=10,
            test_size=5,
            fingerprint="f" * 64,
            preprocess=Preprocess(input_size=(3, 32, 32), mean=(0.5,) * 3, std=(0.2,) * 3),
            augmentation="none",
        ),
        "dense": Costs(macs=100, params=10),
        "target": "macs=0.5",
        "seed": 0,
        "method": "dcff",
        "settings": {"lr": 0.1, "milestones": (0.5, 0.75), "device": "cpu"},
        "command": ["compress", "train"],
    }
    return new_record(**(values | changes))
