"""The weights file of a compact model."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from compress.artifact.weights import save_weights


def test_the_same_tensors_give_the_same_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).state_dict()
    files = set()
    for i in range(20):
        save_weights(tmp_path / str(i), state)
        files.add((tmp_path / str(i)).read_bytes())
    assert len(files) == 1
