"""Record of the machine and of the library versions that produced a result."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

import psutil

from compress.core.spec import Record


class Machine(Record):
    """A machine.

    Attributes:
        cpu: name of the processor.
        cores: cores that this process may use.
        memory_bytes: installed memory.
        platform: operating system and architecture.
        gpus: names of the CUDA devices that torch sees.
    """

    cpu: str
    cores: int
    memory_bytes: int
    platform: str
    gpus: tuple[str, ...] = ()


def this_machine() -> Machine:
    """Return the record of this machine."""
    import torch  # imported here: most readers of a record measure nothing

    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else range(0)
    return Machine(
        cpu=_cpu_name(),
        cores=_usable_cores(),
        memory_bytes=psutil.virtual_memory().total,
        platform=platform.platform(),
        gpus=tuple(torch.cuda.get_device_name(index) for index in gpus),
    )


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result may depend on."""
    import torch

    result = {"python": platform.python_version(), "torch": str(torch.__version__)}
    for package, name in (
        ("compress-cnn", "compress"),
        ("torchvision", "torchvision"),
        ("accelerate", "accelerate"),
        ("timm", "timm"),
    ):
        try:
            result[name] = metadata.version(package)
        except metadata.PackageNotFoundError:
            if name == "compress":
                result[name] = "unpackaged"
    return result


def _usable_cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else (os.cpu_count() or 1)


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in {"model name", "Model", "cpu model"} and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()
