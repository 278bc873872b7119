"""Two ONNX files of one kind of network, wide and narrow, and a run folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from compress import artifact, data, models
from compress.artifact import RunFolder
from compress.bench.protocol import machine
from compress.core.spec import Costs
from compress.export.onnx.exporter import to_onnx

FACTORY = """
from torch import nn

def tiny(num_classes=10, in_channels=1):
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(128, num_classes),
    )
"""


def network(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 10),
    )


@pytest.fixture(scope="module")
def short_rests() -> Iterator[None]:
    """For runners with a time of their own: no thread of theirs computes, so that a look at it is enough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "REST_SLICE_S", 0.001)
        yield


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wide") / "wide.onnx"
    to_onnx(network(128), torch.zeros(1, 3, 16, 16), path)
    return path


@pytest.fixture(scope="session")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("narrow") / "narrow.onnx"
    to_onnx(network(8), torch.zeros(1, 3, 16, 16), path)
    return path


@pytest.fixture(scope="session")
def untouched_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose compact model is the dense network with other weights."""
    folder = tmp_path_factory.mktemp("factory")
    (folder / "net.py").write_text(FACTORY)
    name = f"{folder / 'net.py'}:tiny"
    spec = models.model_spec(name, 10, (1, 8, 8))
    torch.manual_seed(1)
    model = models.build(name, 10, (1, 8, 8)).eval()
    record = artifact.new_record(
        model=spec,
        data=data.load("digits", input_size=(1, 8, 8)).info,
        dense=Costs(macs=5888, params=1378),
        target="macs=1",
        seed=0,
        method="scratch",
        settings={},
    )
    path = tmp_path_factory.mktemp("runs") / "tiny-run"
    with RunFolder.create(path, record) as run:
        artifact.save_compact(
            run, model, spec, None, {}, {"top1": 0.875}, compact=Costs(macs=2944, params=1378)
        )
    return path


@pytest.fixture
def run(untouched_run: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may change."""
    return Path(shutil.copytree(untouched_run, tmp_path / untouched_run.name))
