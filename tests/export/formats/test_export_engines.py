"""TensorRT-RTX builds engines of common networks, dense and sliced, in every precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from compress import models
from compress.export.formats.tensorrt_build import build_engine
from compress.export.onnx.exporter import to_onnx
from compress.export.options import Options, Precision
from compress.export.precision.reduce import reduce_precision
from compress.graph import trace
from compress.planning import make_plan
from compress.slicing import slice_model

rtx = pytest.importorskip("tensorrt_rtx")

SAMPLE = ("vgg_small", pytest.param("torchvision/shufflenet_v2_x0_5", marks=pytest.mark.slow))
"""Without ``--zoo``; all networks with it."""

TORCHVISION = tuple(
    f"torchvision/{name}"
    for name in (
        "convnext_tiny",
        "efficientnet_b0",
        "googlenet",
        "mnasnet0_5",
        "mobilenet_v3_small",
        "regnet_y_400mf",
        "resnet18",
        "resnext50_32x4d",
        "shufflenet_v2_x0_5",
        "squeezenet1_1",
    )
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "network" in metafunc.fixturenames:
        zoo = metafunc.config.getoption("--zoo", default=False)
        metafunc.parametrize("network", (*models.list_models(), *TORCHVISION) if zoo else SAMPLE)


@pytest.mark.parametrize("kind", ["dense", "sliced"])
def test_a_network_becomes_an_engine_in_fp32_fp16_and_int8(network: str, kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    size = (3, 64, 64) if network.startswith("torchvision") else (3, 32, 32)
    model = models.build(network, 10, size).eval()
    if kind == "sliced":
        model = slice_model(model, make_plan(trace(model, torch.zeros(2, *size)), keep=0.5, align=8)).eval()
    to_onnx(model, torch.zeros(1, *size), tmp_path / "fp32.onnx")
    noise = np.random.default_rng(0).standard_normal((4, *size)).astype(np.float32)
    precisions: tuple[Precision, ...] = ("fp32", "fp16", "int8")
    for precision in precisions:
        path = tmp_path / f"{precision}.onnx"
        if precision != "fp32":
            reduce_precision(tmp_path / "fp32.onnx", path, precision, noise)
        engine = build_engine(rtx, path, Options(precision=precision), "TensorRT-RTX")
        assert engine.data.nbytes > 0
