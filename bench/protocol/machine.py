"""State of the machine that affects times: usable cores, frequency governor, load and idle threads."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil

from compress.core.spec import Record

REST_SLICE_S = 0.02
"""Slice of time; this process is idle if it used less than 30% of a slice.

Kernels may account CPU time in ticks of 4 ms, so a shorter slice can miss a busy thread."""

REST_LIMIT_S = 0.3
"""Longest wait for this process to become idle, in seconds."""


class CpuState(Record):
    """Frequency governor and load of the processor.

    Attributes:
        governor: frequency governor of the first core; None if the system does not report it.
        load_average: load of the last 1, 5 and 15 minutes; None if the system does not report it.
    """

    governor: str | None
    load_average: tuple[float, float, float] | None


def cpu_state() -> CpuState:
    """Return the current state."""
    governor = _text(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"))
    if not hasattr(os, "getloadavg"):
        return CpuState(governor=governor, load_average=None)
    one, five, fifteen = (round(value, 2) for value in os.getloadavg())
    return CpuState(governor=governor, load_average=(one, five, fifteen))


def wait_for_rest(limit_s: float = REST_LIMIT_S) -> bool:
    """Sleep until this process is idle; return whether it became idle within the limit.

    Worker threads of an inference runtime keep spinning after the last inference (ONNX Runtime: about 30 ms)
    and would take a core from the next measurement.
    """
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        used, start = time.process_time(), time.perf_counter()
        time.sleep(REST_SLICE_S)
        if time.process_time() - used < 0.3 * (time.perf_counter() - start):
            return True
    return False


class OthersLoad:
    """Load of the processors by other processes since this object was created."""

    def __init__(self) -> None:
        self._start = _processor_seconds()

    def share(self) -> float:
        """Return the share of all processor time, 0 to 1, including time stolen by a hypervisor."""
        total, busy, own = (b - a for a, b in zip(self._start, _processor_seconds(), strict=True))
        return min(1.0, max(0.0, (busy - own) / total)) if total > 0 else 0.0


def _processor_seconds() -> tuple[float, float, float]:
    """Return seconds over all processors since boot: total, busy, and used by this process."""
    times = psutil.cpu_times()._asdict()
    counted = {name: value for name, value in times.items() if name not in ("guest", "guest_nice", "dpc")}
    total = sum(counted.values())
    idle = counted["idle"] + counted.get("iowait", 0.0)
    own = psutil.Process().cpu_times()
    return total, total - idle, own.user + own.system


def default_threads() -> int:
    """Return the number of physical cores that this process may use by its affinity and CPU quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    usable = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or usable, usable, _quota() or usable))


def _quota() -> int | None:
    """Return the whole processors that the control group allows, or None."""
    quota, _, period = (_text(Path("/sys/fs/cgroup/cpu.max")) or "max").partition(" ")
    return max(1, int(quota) // int(period)) if quota.isdigit() and period.isdigit() and int(period) else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8").strip()
    except OSError:
        return None
