"""The state of the machine that a time depends on: usable cores, governor, load, and rest."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil

from compress.core.spec import Record

REST_SLICE_S = 0.02
"""This process is at rest when it used less than a third of such a slice of time.

Kernels may count in ticks of 4 ms, so a shorter slice can miss a thread that computes."""

REST_LIMIT_S = 0.3
"""Longest wait for rest."""


class CpuState(Record):
    """What the processor is allowed to do, and what else it does.

    Attributes:
        governor: frequency governor of the first core; None where the system does not tell.
        load_average: of the last 1, 5 and 15 minutes; None where the system does not tell.
    """

    governor: str | None
    load_average: tuple[float, float, float] | None


def cpu_state() -> CpuState:
    """Return the state of now."""
    governor = _text(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"))
    if not hasattr(os, "getloadavg"):
        return CpuState(governor=governor, load_average=None)
    one, five, fifteen = (round(value, 2) for value in os.getloadavg())
    return CpuState(governor=governor, load_average=(one, five, fifteen))


def wait_for_rest(limit_s: float = REST_LIMIT_S) -> bool:
    """Sleep until no thread of this process computes; return whether that came true in time.

    The worker threads of an inference runtime go on spinning after its last inference (ONNX Runtime: about
    30 ms), and take a core from whatever is measured next.
    """
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        used, start = time.process_time(), time.perf_counter()
        time.sleep(REST_SLICE_S)
        if time.process_time() - used < 0.3 * (time.perf_counter() - start):
            return True
    return False


class OthersLoad:
    """How much of the processors was taken by others than this process, from the making of the object on."""

    def __init__(self) -> None:
        self._start = _processor_seconds()

    def share(self) -> float:
        """Return the share of all processors' time, 0 to 1, that a hypervisor took included."""
        total, busy, own = (b - a for a, b in zip(self._start, _processor_seconds(), strict=True))
        return min(1.0, max(0.0, (busy - own) / total)) if total > 0 else 0.0


def _processor_seconds() -> tuple[float, float, float]:
    """Seconds of all processors since they started: all, not idle, and of this process."""
    times = psutil.cpu_times()._asdict()
    counted = {name: value for name, value in times.items() if name not in ("guest", "guest_nice", "dpc")}
    total = sum(counted.values())
    idle = counted["idle"] + counted.get("iowait", 0.0)
    own = psutil.Process().cpu_times()
    return total, total - idle, own.user + own.system


def default_threads() -> int:
    """Return the physical cores this process may use: not more than its affinity and its quota allow."""
    affinity = getattr(os, "sched_getaffinity", None)
    usable = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or usable, usable, _quota() or usable))


def _quota() -> int | None:
    """Whole processors a control group allows, or None."""
    quota, _, period = (_text(Path("/sys/fs/cgroup/cpu.max")) or "max").partition(" ")
    return max(1, int(quota) // int(period)) if quota.isdigit() and period.isdigit() and int(period) else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8").strip()
    except OSError:
        return None
