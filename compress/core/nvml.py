"""NVIDIA driver and GPUs as reported by the management library NVML; needs neither torch nor CUDA."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Gpu:
    """A GPU: its name, compute capability such as ``8.6``, and memory in bytes."""

    name: str
    compute_capability: str
    memory_bytes: int


@dataclass(frozen=True)
class Driver:
    """An NVIDIA driver: its version, the newest CUDA version it supports, and its GPUs."""

    version: str
    cuda: str
    gpus: tuple[Gpu, ...]


def driver() -> Driver | None:
    """Return the installed driver; None if it or the package nvidia-ml-py is missing or broken."""
    with _library() as nvml:
        if nvml is None:
            return None
        try:
            number = int(nvml.nvmlSystemGetCudaDriverVersion_v2())
            return Driver(
                version=str(nvml.nvmlSystemGetDriverVersion()),
                cuda=f"{number // 1000}.{number % 1000 // 10}",
                gpus=tuple(_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())),
            )
        except nvml.NVMLError:
            return None


def _gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    memory = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    return Gpu(str(nvml.nvmlDeviceGetName(handle)), f"{major}.{minor}", memory)


@contextlib.contextmanager
def _library() -> Iterator[Any | None]:
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no package, no driver, or a driver of another version
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()
