"""What an engine depends on beside its bytes: GPU, driver, CUDA and the version of its runtime."""

from __future__ import annotations

import importlib
import importlib.util

from compress.core import nvml
from compress.core.spec import Record


class DeviceRecord(Record):
    """The first GPU of a process and what drives it; None where there is none, or it is not known.

    Attributes:
        gpu: the GPU's marketing name.
        compute_capability: such as ``8.6``.
        driver: version of NVIDIA's driver.
        cuda: newest CUDA version the driver supports.
        tensorrt: version of the package `tensorrt`; also known without a GPU.
        tensorrt_rtx: version of the package `tensorrt_rtx`; also known without a GPU.
    """

    gpu: str | None = None
    compute_capability: str | None = None
    driver: str | None = None
    cuda: str | None = None
    tensorrt: str | None = None
    tensorrt_rtx: str | None = None


def this_device() -> DeviceRecord:
    """Return the record of this process's first GPU: torch's choice, else the first that NVML lists."""
    said = nvml.driver()
    name: str | None = None
    capability: str | None = None
    if said is not None and said.gpus:
        name, capability = said.gpus[0].name, said.gpus[0].compute_capability
    cuda = said.cuda if said is not None else None
    seen = _torch()
    if seen is not None:
        name, capability, built_with = seen
        cuda = cuda or built_with
    return DeviceRecord(
        gpu=name,
        compute_capability=capability,
        driver=said.version if said is not None else None,
        cuda=cuda,
        tensorrt=version_of("tensorrt"),
        tensorrt_rtx=version_of("tensorrt_rtx"),
    )


def version_of(module: str) -> str | None:
    """Return the version of a package that can be imported, else None."""
    if importlib.util.find_spec(module) is None:
        return None
    try:
        found = getattr(importlib.import_module(module), "__version__", None)
    except Exception:  # a package whose libraries are broken raises whatever its loader does
        return None
    return None if found is None else str(found)


def sm(capability: str | None) -> int | None:
    """Return ``8.6`` as 86; None for what is no compute capability."""
    major, _, minor = (capability or "").partition(".")
    return int(major) * 10 + int(minor) if major.isdecimal() and minor.isdecimal() else None


def _torch() -> tuple[str, str, str | None] | None:
    """Name and compute capability of the GPU torch uses, and the CUDA version torch was built with."""
    import torch

    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability()
    return torch.cuda.get_device_name(), f"{major}.{minor}", torch.version.cuda
