"""A small trained network, its ONNX file, and a run folder that holds it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import nn
from torch.nn import functional as F

from compress import artifact, data, models
from compress.artifact import RunFolder
from compress.core.spec import Costs
from compress.data import ImageData
from compress.export import export
from compress.export.onnx.exporter import to_onnx

FACTORY = """
from torch import nn

def tiny(num_classes=10, in_channels=1):
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(128, num_classes),
    )
"""


RESIDUAL = """
from torch import nn

class Residual(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_channels, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.first = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16))
        self.head = nn.Sequential(nn.ReLU(), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(64, num_classes))

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.second(self.first(x)))

def residual(num_classes=10, in_channels=1):
    return Residual(num_classes, in_channels)
"""


@pytest.fixture(scope="session")
def digits() -> ImageData:
    return data.load("digits", input_size=(1, 8, 8))


@pytest.fixture(scope="session")
def factory(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("factory") / "net.py"
    path.write_text(FACTORY)
    return f"{path}:tiny"


@pytest.fixture(scope="session")
def model(factory: str, digits: ImageData) -> nn.Module:
    """The network after a short training, in eval mode."""
    return trained(factory, digits)


def trained(factory: str, digits: ImageData, epochs: int = 4) -> nn.Module:
    """The network of a factory after a short training, in eval mode."""
    torch.manual_seed(0)
    net = models.build(factory, 10, (1, 8, 8))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(epochs):
        for images, labels in digits.train_batches(epoch=epoch, batch_size=32, seed=0):
            optimizer.zero_grad()
            F.cross_entropy(net(images), labels).backward()
            optimizer.step()
    return net.eval()


@pytest.fixture(scope="session")
def images(digits: ImageData) -> NDArray[np.float32]:
    return digits.test_arrays(40)[0].numpy()


@pytest.fixture(scope="session")
def onnx_file(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    to_onnx(model, torch.zeros(1, 1, 8, 8), path)
    return path


@pytest.fixture(scope="session")
def trained_run(
    model: nn.Module, factory: str, digits: ImageData, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return save_run(tmp_path_factory.mktemp("runs") / "tiny-run", model, factory, digits)


def save_run(path: Path, model: nn.Module, factory: str, digits: ImageData) -> Path:
    """A run folder that holds the network."""
    spec = models.model_spec(factory, 10, (1, 8, 8))
    costs = Costs(macs=5888, params=1378)
    record = artifact.new_record(
        model=spec, data=digits.info, dense=costs, target="macs=1", seed=0, method="scratch", settings={}
    )
    with RunFolder.create(path, record) as run:
        artifact.save_compact(run, model, spec, None, {"max_rel": 0.0}, compact=costs)
    return path


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    """A copy of the trained run that a test may change."""
    return Path(shutil.copytree(trained_run, tmp_path / trained_run.name))


@pytest.fixture(scope="session")
def exported_run(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with its ONNX export. Not to be changed."""
    path = tmp_path_factory.mktemp("exported") / "tiny-run"
    shutil.copytree(trained_run, path)
    export(path, samples=32)
    return path


@pytest.fixture
def exported(exported_run: Path, tmp_path: Path) -> Path:
    """The export folder of a copy of that run, which a test may change."""
    return Path(shutil.copytree(exported_run, tmp_path / "tiny-run")) / "export"


@pytest.fixture(scope="session")
def residual_factory(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("residual") / "net.py"
    path.write_text(RESIDUAL)
    return f"{path}:residual"


@pytest.fixture(scope="session")
def residual(residual_factory: str, digits: ImageData) -> nn.Module:
    """A network with layers between the first and the last, and an addition, after a short training."""
    return trained(residual_factory, digits, epochs=10)


@pytest.fixture(scope="session")
def residual_onnx(residual: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("residual-onnx") / "model.onnx"
    to_onnx(residual, torch.zeros(1, 1, 8, 8), path, metadata={"compress.run": "demo"})
    return path


@pytest.fixture(scope="session")
def residual_trained(
    residual: nn.Module, residual_factory: str, digits: ImageData, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return save_run(tmp_path_factory.mktemp("runs") / "residual-run", residual, residual_factory, digits)


@pytest.fixture
def residual_run(residual_trained: Path, tmp_path: Path) -> Path:
    """A copy of the residual network's run that a test may change."""
    return Path(shutil.copytree(residual_trained, tmp_path / residual_trained.name))


@pytest.fixture
def determinant(tmp_path: Path) -> Path:
    """A network of one operator that ONNX has, and neither TensorRT nor OpenVINO."""
    graph = helper.make_graph(
        [helper.make_node("Det", ["input"], ["logits"], name="the_determinant")],
        "one",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 2, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, str(tmp_path / "determinant.onnx"))
    return tmp_path / "determinant.onnx"


@pytest.fixture(scope="session")
def calibration(digits: ImageData) -> NDArray[np.float32]:
    return digits.train_samples(64, 0).numpy()
