"""`compress.train` on a user's own module and data loaders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import compress


def part(n: int) -> TensorDataset:
    labels = torch.arange(n) % 2
    images = torch.randn(n, 1, 12, 12, generator=torch.Generator().manual_seed(n)) + labels.view(-1, 1, 1, 1)
    return TensorDataset(images, labels)


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.BatchNorm2d(64)]
    return nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2))


@pytest.mark.parametrize(("given", "used"), [({}, 16), ({"batch_size": 8}, 8)])
def test_the_batch_size_of_the_loader_is_the_default(
    given: dict[str, int], used: int, tmp_path: Path
) -> None:
    loader = DataLoader(part(64), batch_size=16, shuffle=True)
    result = compress.train(
        network(),
        (loader, part(32)),
        "l1",
        target="macs=0.5",
        epochs=1,
        lr=0.05,
        out=tmp_path / "run",
        **given,
    )
    assert f'"batch_size": {used},' in (tmp_path / "run" / "run.json").read_text()
    assert result.compact.macs < 0.51 * result.dense.macs
    with torch.no_grad():
        assert result.model(part(4).tensors[0]).shape == (4, 2)
