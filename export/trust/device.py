"""The GPU, driver, CUDA and runtime versions of a machine, which decide what engines it can run."""

from __future__ import annotations

import importlib
import importlib.util

from compress.core import nvml
from compress.core.spec import Record


class DeviceRecord(Record):
    """The first GPU of a process with its driver and runtimes; None for what is missing or unknown.

    Attributes:
        gpu: the GPU's marketing name.
        compute_capability: such as ``8.6``.
        driver: version of NVIDIA's driver.
        cuda: newest CUDA version the driver supports.
        tensorrt: version of the package `tensorrt`; does not need a GPU.
        tensorrt_rtx: version of the package `tensorrt_rtx`; does not need a GPU.
    """

    gpu: str | None = None
    compute_capability: str | None = None
    driver: str | None = None
    cuda: str | None = None
    tensorrt: str | None = None
    tensorrt_rtx: str | None = None


def this_device() -> DeviceRecord:
    """Return the record of this process's first GPU: the one torch uses, else the first that NVML lists."""
    driver = nvml.driver()
    name: str | None = None
    capability: str | None = None
    if driver is not None and driver.gpus:
        name, capability = driver.gpus[0].name, driver.gpus[0].compute_capability
    cuda = driver.cuda if driver is not None else None
    torch_gpu = _gpu_of_torch()
    if torch_gpu is not None:
        name, capability, torch_cuda = torch_gpu
        cuda = cuda or torch_cuda
    return DeviceRecord(
        gpu=name,
        compute_capability=capability,
        driver=driver.version if driver is not None else None,
        cuda=cuda,
        tensorrt=version_of("tensorrt"),
        tensorrt_rtx=version_of("tensorrt_rtx"),
    )


def version_of(module: str) -> str | None:
    """Return the version of a package, or None if it cannot be imported."""
    if importlib.util.find_spec(module) is None:
        return None
    try:
        version = getattr(importlib.import_module(module), "__version__", None)
    except Exception:  # a package with broken libraries may raise any class
        return None
    return None if version is None else str(version)


def sm(capability: str | None) -> int | None:
    """Return ``8.6`` as 86, or None if the text is no compute capability."""
    major, _, minor = (capability or "").partition(".")
    return int(major) * 10 + int(minor) if major.isdecimal() and minor.isdecimal() else None


def _gpu_of_torch() -> tuple[str, str, str | None] | None:
    """Return name and compute capability of the GPU torch uses, and the CUDA version torch was built with."""
    import torch

    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability()
    return torch.cuda.get_device_name(), f"{major}.{minor}", torch.version.cuda
