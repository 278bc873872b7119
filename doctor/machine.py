"""Facts about the machine, read without torch."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path

from compress.doctor.record import Gpu, Machine


def this_machine() -> Machine:
    """Return the facts about this machine; what cannot be read is None."""
    from compress.core import nvml

    total, free = _memory()
    driver = nvml.driver()
    affinity = getattr(os, "sched_getaffinity", None)
    return Machine(
        python=platform.python_version(),
        executable=sys.executable,
        platform=platform.platform(),
        cores=len(affinity(0)) if affinity else os.cpu_count() or 1,
        memory_bytes=total,
        memory_free_bytes=free,
        disk_free_bytes=_disk(),
        driver=driver.version if driver else None,
        cuda=driver.cuda if driver else None,
        gpus=tuple(Gpu(**vars(gpu)) for gpu in driver.gpus) if driver else (),
    )


def _memory() -> tuple[int | None, int | None]:
    try:
        import psutil

        memory = psutil.virtual_memory()
        return memory.total, memory.available
    except Exception:  # the package is missing or broken
        return None, None


def _disk() -> int | None:
    try:
        return shutil.disk_usage(Path.cwd()).free
    except OSError:
        return None
