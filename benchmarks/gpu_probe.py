"""Check that a back end runs a small convolutional network and computes the same logits as the CPU.

`python -m benchmarks.gpu_probe BACKEND` checks in this process and prints the outcome as JSON. `answer`
checks in a subprocess, because a runtime that does not support the GPU or driver may crash its process.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from compress.bench.backends import RTX_ENGINE, RunConfig, get_backend, require_backend
from compress.core.errors import CompressError, Exit
from compress.core.files import sha256_file, write_bytes
from compress.export.formats.tensorrt_build import build_engine
from compress.export.options import BatchRange, Options

QUESTIONS = {
    "trt-rtx": "Does TensorRT-RTX run on this GPU? (Its builder lists no SM 90.)",
    "ort-cuda": "Does ONNX Runtime's CUDA provider work with the CUDA and cuDNN that torch brings?",
}
"""Question that the check of each back end answers."""

TOLERANCE = 1e-2
"""Largest difference of a logit, relative to the largest logit; TF32 is allowed."""

TIMEOUT_S = 300
PACKAGES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt-rtx",
    "nvidia-cudnn-cu13",
    "nvidia-cudnn-cu12",
)


def convolution() -> bytes:
    """Return an ONNX model: float32 `[batch, 3, 16, 16]` through two convolutions to logits `[batch, 10]`."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> Any:
        return numpy_helper.from_array(random.standard_normal(shape).astype(np.float32) / 8, name)

    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["input", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c1"], ["r1"]),
            helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1], strides=[2, 2]),
            helper.make_node("Relu", ["c2"], ["r2"]),
            helper.make_node("GlobalAveragePool", ["r2"], ["pool"]),
            helper.make_node("Flatten", ["pool"], ["flat"], axis=1),
            helper.make_node("Gemm", ["flat", "w3", "b3"], ["logits"]),
        ],
        "probe",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [weight("w1", 32, 3, 3, 3), weight("b1", 32), weight("w2", 64, 32, 3, 3), weight("b2", 64),
         weight("w3", 64, 10), weight("b3", 10)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def run_once(backend: str) -> dict[str, Any]:
    """Run the network on a back end in this process and compare its logits with ONNX Runtime's on the CPU.

    Returns:
        ``answer``: ``yes``, ``no`` or ``not asked`` (a requirement is missing), and a ``message``.
    """
    try:
        runtime = get_backend(backend)
        config = RunConfig(batch=4, threads=1)
        require_backend(backend, config)
        _check_providers(backend)
    except CompressError as error:
        return {"answer": "not asked", "message": str(error)}
    images = np.random.default_rng(1).standard_normal((4, 3, 16, 16)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.onnx"
        source.write_bytes(convolution())
        try:
            path = source
            if ".onnx" not in runtime.reads:
                path = _engine(runtime, source)
                config = replace(config, sha256=sha256_file(path))
            runner = runtime.load(path, config)
            logits = runner.logits(images)
            runner.run(3)
            settings = runner.settings
            runner.close()
        except CompressError as error:
            return {"answer": "no", "message": str(error)}
        cpu = get_backend("ort-cpu").load(source, RunConfig(batch=4, threads=1))
        expected = cpu.logits(images)
        cpu.close()
    difference = float(np.abs(logits - expected).max() / np.abs(expected).max())
    is_equal = bool(difference <= TOLERANCE)
    message = f"logits differ from the CPU's by {difference:.1e}"
    return {
        "answer": "yes" if is_equal else "no",
        "message": message,
        "difference": difference,
        "session": settings,
    }


def _check_providers(backend: str) -> None:
    """Raise `CompressError` if this build of ONNX Runtime lacks the provider of `backend`."""
    if backend not in ("ort-cuda", "ort-trt"):
        return
    import onnxruntime

    provider = {"ort-cuda": "CUDAExecutionProvider", "ort-trt": "TensorrtExecutionProvider"}[backend]
    if provider not in onnxruntime.get_available_providers():
        raise CompressError(
            f"this build of ONNX Runtime has no {provider}",
            hint="pip install onnxruntime-gpu",
            code="missing-package",
            exit=Exit.MISSING,
        )


def _engine(runtime: Any, source: Path) -> Path:
    name = next(iter(runtime.packages))
    module: Any = importlib.import_module(name)
    path = source.with_name(f"probe{RTX_ENGINE if RTX_ENGINE in runtime.reads else '.engine'}")
    built = build_engine(module, source, Options(batch=BatchRange(1, 4, 4)), name)
    write_bytes(path, memoryview(built.data))
    return path


def answer(backend: str, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """Check a back end in a subprocess; a crash or a timeout counts as ``no``."""
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-m", "benchmarks.gpu_probe", backend]
    try:
        done = subprocess.run(
            command, cwd=root, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        outcome: dict[str, Any] = {"answer": "no", "message": f"no answer within {timeout_s:g} s"}
    else:
        outcome = _parse_output(done)
    return {
        "backend": backend,
        "question": QUESTIONS.get(backend, "Does it run here?"),
        **outcome,
        **describe_environment(),
    }


def _parse_output(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    lines = done.stdout.splitlines()
    if done.returncode == 0 and lines:
        outcome: dict[str, Any] = json.loads(lines[-1])
        return outcome
    last = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    message = f"the process exited with {done.returncode}: {last[-1] if last else 'no output'}"
    return {"answer": "no", "message": message}


def describe_environment() -> dict[str, Any]:
    """Return the GPU, its compute capability, and the versions of the packages involved."""
    import torch

    environment: dict[str, Any] = {"gpu": None, "compute_capability": None, "cuda": torch.version.cuda}
    if torch.cuda.is_available():
        environment["gpu"] = torch.cuda.get_device_name()
        environment["compute_capability"] = ".".join(map(str, torch.cuda.get_device_capability()))
        environment["cudnn"] = torch.backends.cudnn.version()
    environment["packages"] = {}
    for name in PACKAGES:
        try:
            environment["packages"][name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return environment


if __name__ == "__main__":
    print(json.dumps(run_once(sys.argv[1])))
