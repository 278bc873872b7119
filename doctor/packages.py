"""Packages, imported for real: one that is installed and cannot be imported is broken."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import io
import platform
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from typing import Any

from compress.doctor.record import Check

_X86 = platform.machine().lower() in ("x86_64", "amd64")

NEEDED: Mapping[str, str] = {
    "torch": "torch",
    "torchvision": "torchvision",
    "accelerate": "accelerate",
    "onnx": "onnx",
    "onnxscript": "onnxscript",
    "onnxruntime": "onnxruntime-gpu" if _X86 and sys.platform != "darwin" else "onnxruntime",
}
"""Packages of the default path, by import name, with the names pip knows."""

USEFUL: Mapping[str, str] = {
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt-rtx",
    "openvino": "openvino",
    "cryptography": "cryptography",
    "pynvml": "nvidia-ml-py",
}
"""Packages that more can be done with."""

FAILURES = (Exception, SystemExit)
"""Whatever a broken package may raise."""


def reason(error: BaseException) -> str:
    """Return what an exception says in one line."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


@cache
def probe(module: str, pip: str) -> Check:
    """Import a package and, where a test of it is known, put it to the test.

    Args:
        module: the import name.
        pip: the name pip knows.
    """
    try:
        if importlib.util.find_spec(module) is None:
            mend = f"pip install {pip}{_ALSO.get(module, '')}"
            return Check(name=module, works=False, said="not installed", mend=mend)
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            loaded = importlib.import_module(module)
    except FAILURES as error:
        mend = f"pip install --force-reinstall {pip}"
        return Check(name=module, works=False, said=f"cannot be imported: {reason(error)}", mend=mend)
    version = _version(loaded, pip)
    try:
        said = _TESTS[module](loaded) if module in _TESTS else ""
    except FAILURES as error:
        mend = _MENDS.get(module, f"pip install --force-reinstall {pip}")
        return Check(name=module, works=False, said=f"{version}, does not work: {reason(error)}", mend=mend)
    return Check(name=module, works=True, said=f"{version}{said}")


def _version(loaded: Any, pip: str) -> str:
    found = getattr(loaded, "__version__", None)
    if isinstance(found, str):
        return found.partition("-")[0]  # some add the commit and the branch they were built from
    try:
        return importlib.metadata.version(pip)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def _torch(torch: Any) -> str:
    """A step of training on the CPU, and a sum on the GPU where torch sees one."""
    weight = torch.zeros(2, 1, 3, 3, requires_grad=True)
    torch.nn.functional.conv2d(torch.ones(1, 1, 8, 8), weight).sum().backward()
    if float(weight.grad[0, 0, 0, 0]) != 36.0:
        raise RuntimeError("a convolution's gradient is wrong")
    if not torch.cuda.is_available():
        built = torch.version.cuda
        return f", built for CUDA {built}, sees no GPU" if built else ", built without CUDA"
    if float(torch.ones(8, device="cuda").sum()) != 8.0:
        raise RuntimeError("a sum on the GPU is wrong")
    return f", CUDA {torch.version.cuda}, computes on {torch.cuda.get_device_name()}"


def _builder(trt: Any) -> str:
    """A builder; TensorRT's needs a GPU, TensorRT-RTX's does not."""
    if trt.Builder(trt.Logger(trt.Logger.ERROR)) is None:
        raise RuntimeError("no builder can be made")
    return ", a builder can be made"


def _openvino(openvino: Any) -> str:
    return f", devices {', '.join(openvino.Core().available_devices)}"


_TESTS: Mapping[str, Callable[[Any], str]] = {
    "torch": _torch,
    "tensorrt": _builder,
    "tensorrt_rtx": _builder,
    "openvino": _openvino,
}

_ALSO = {"tensorrt": "; it needs an NVIDIA GPU"}

_MENDS = {"tensorrt": "an NVIDIA GPU, and a driver that supports the CUDA version of the package"}
