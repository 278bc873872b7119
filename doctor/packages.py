"""Import packages and try them: one that is installed but cannot be imported is broken."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import io
import platform
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from functools import cache
from types import ModuleType
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
"""Packages of the default path: name in pip by import name. torch comes first."""

USEFUL: Mapping[str, str] = {
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt-rtx",
    "openvino": "openvino",
    "cryptography": "cryptography",
    "pynvml": "nvidia-ml-py",
}
"""Packages of further formats, back ends and features: name in pip by import name."""

FAILURES = (Exception, SystemExit)
"""Exceptions that importing a broken package may raise."""


def reason(error: BaseException) -> str:
    """Return the class and the first line of an exception."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


@cache
def probe(module: str, pip: str) -> Check:
    """Import a package and, if there is a test of it, run the test.

    Args:
        module: import name.
        pip: name in pip.
    """
    try:
        if importlib.util.find_spec(module) is None:
            fix = f"pip install {pip}{_REQUIREMENTS.get(module, '')}"
            return Check(name=module, works=False, detail="not installed", fix=fix)
        prepared = _IMPORT_CONTEXTS.get(module, nullcontext)
        with prepared(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            package = importlib.import_module(module)
    except FAILURES as error:
        fix = f"pip install --force-reinstall {pip}"
        return Check(name=module, works=False, detail=f"cannot be imported: {reason(error)}", fix=fix)
    version = _version(package, pip)
    try:
        result = _TESTS[module](package) if module in _TESTS else ""
    except FAILURES as error:
        fix = _FIXES.get(module, f"pip install --force-reinstall {pip}")
        return Check(name=module, works=False, detail=f"{version}, does not work: {reason(error)}", fix=fix)
    return Check(name=module, works=True, detail=f"{version}{result}")


def _version(package: Any, pip: str) -> str:
    version = getattr(package, "__version__", None)
    if isinstance(version, str):
        return version.partition("-")[0]  # some add the commit and the branch they were built from
    try:
        return importlib.metadata.version(pip)
    except importlib.metadata.PackageNotFoundError:
        return "unknown version"


@contextmanager
def _without_torch_compiler() -> Iterator[None]:
    """Import torchvision without torch._dynamo, which takes a second and which one function of it needs.

    A placeholder defers the import of torch._dynamo until that function is called.
    """
    name = "torch._dynamo"
    if name in sys.modules:
        yield
        return

    def is_compile_supported(device_type: str) -> bool:
        return bool(importlib.import_module(f"{name}.utils").is_compile_supported(device_type))

    package, utils = ModuleType(name), ModuleType(f"{name}.utils")
    package.__path__ = []
    utils.is_compile_supported = is_compile_supported  # type: ignore[attr-defined]
    sys.modules.update({name: package, utils.__name__: utils})
    try:
        yield
    finally:
        for placeholder in (package, utils):
            if sys.modules.get(placeholder.__name__) is placeholder:
                del sys.modules[placeholder.__name__]


def _test_torch(torch: Any) -> str:
    """Compute a gradient on the CPU and, if torch sees a GPU, a sum there; check torch's own requirements."""
    missing = _missing_requirements("torch")
    if missing:
        raise RuntimeError(f"it needs {', '.join(missing)}")
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


def _missing_requirements(distribution: str) -> list[str]:
    """Return the unconditional requirements of a distribution that are not installed."""
    try:
        requirements = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    missing = []
    for requirement in requirements:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        if name is None or ";" in requirement:
            continue
        try:
            importlib.metadata.version(name[0])
        except importlib.metadata.PackageNotFoundError:
            missing.append(name[0])
    return missing


def _test_builder(trt: Any) -> str:
    """Create a builder; that of TensorRT needs a GPU, that of TensorRT-RTX does not."""
    if trt.Builder(trt.Logger(trt.Logger.ERROR)) is None:
        raise RuntimeError("no builder can be created")
    return ", a builder can be created"


def _test_openvino(openvino: Any) -> str:
    return f", devices {', '.join(openvino.Core().available_devices)}"


_TESTS: Mapping[str, Callable[[Any], str]] = {
    "torch": _test_torch,
    "tensorrt": _test_builder,
    "tensorrt_rtx": _test_builder,
    "openvino": _test_openvino,
}

_IMPORT_CONTEXTS = {"torchvision": _without_torch_compiler}

_REQUIREMENTS = {"tensorrt": "; it needs an NVIDIA GPU"}

_FIXES = {"tensorrt": "an NVIDIA GPU, and a driver that supports the CUDA version of the package"}
