"""TensorRT and TensorRT-RTX on a GPU: build, run, compare, again with a timing cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress import models
from compress.export.formats.tensorrt_build import build_engine
from compress.export.formats.tensorrt_engine import EngineClassifier, open_engine
from compress.export.onnx.exporter import to_onnx
from compress.export.onnx.session import OnnxClassifier
from compress.export.options import BatchRange, Options, Precision
from compress.export.parity.check import LIMITS
from compress.export.precision.emulate import EmulatedClassifier
from compress.export.precision.reduce import reduce_precision
from compress.export.types import NotRun

RUNTIMES = ("tensorrt", "tensorrt_rtx")
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ResNet-20 with random weights as ONNX files of every precision."""
    path = tmp_path_factory.mktemp("engines")
    torch.manual_seed(0)
    model = models.build("resnet20", 10, (3, 32, 32))
    to_onnx(model, torch.zeros(1, 3, 32, 32), path / "fp32.onnx", opset=22)
    for precision in PRECISIONS[1:]:
        reduce_precision(path / "fp32.onnx", path / f"{precision}.onnx", precision, _noise(32))
    return path


def _noise(count: int) -> Any:
    return np.random.default_rng(0).standard_normal((count, 3, 32, 32)).astype(np.float32)


def _engine(runtime: str, path: Path, options: Options, out: Path) -> EngineClassifier:
    module = pytest.importorskip(runtime)
    out.write_bytes(bytes(build_engine(module, path, options, runtime).data))
    result = open_engine(module, out, runtime)
    if isinstance(result, NotRun):
        pytest.skip(result.reason)
    return result


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_engine_computes_what_its_onnx_file_computes(
    folder: Path, tmp_path: Path, runtime: str, precision: Precision
) -> None:
    path = folder / f"{precision}.onnx"
    engine = _engine(runtime, path, Options(precision=precision), tmp_path / "m.engine")
    half = precision in ("fp16", "bf16")
    expected = (EmulatedClassifier(path) if half else OnnxClassifier(path)).logits(_noise(70))
    result = engine.logits(_noise(70))
    assert np.abs(result - expected).max() / np.abs(expected).max() <= LIMITS[precision].relative


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_one_engine_takes_every_batch_of_its_profile(folder: Path, tmp_path: Path, runtime: str) -> None:
    options = Options(batch=BatchRange(1, 4, 16))
    engine = _engine(runtime, folder / "fp32.onnx", options, tmp_path / "m.engine")
    expected = OnnxClassifier(folder / "fp32.onnx").logits(_noise(37))
    assert engine.batch is None
    for count in (1, 3, 16, 37):
        np.testing.assert_allclose(engine.logits(_noise(37)[:count]), expected[:count], atol=1e-3)


def test_a_second_build_finds_its_measurements_in_the_timing_cache(folder: Path, tmp_path: Path) -> None:
    trt = pytest.importorskip("tensorrt")
    options = Options(precision="fp16", timing_cache=tmp_path / "cache.bin")
    build_engine(trt, folder / "fp16.onnx", options, "TensorRT")
    before = (tmp_path / "cache.bin").read_bytes()
    build_engine(trt, folder / "fp16.onnx", options, "TensorRT")
    assert len(before) > 0
    assert len((tmp_path / "cache.bin").read_bytes()) == len(before)
