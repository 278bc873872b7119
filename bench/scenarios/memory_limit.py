"""Predict whether the next batch size fits into memory, from the memory that the last one used.

Doubling the batch at most doubles the memory: the activations double, the weights do not. A batch size is
measured only if twice the growth of its half is well below the free memory. Both networks of a comparison
are loaded together, since they are measured alternately, so the memory of both counts.
"""

from __future__ import annotations

import contextlib
import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from compress.bench.protocol.peak import resident
from compress.core.errors import CompressError

SHARE = 0.8
"""Largest share of the free memory that a batch size may be predicted to use."""

SWAP_BYTES = 64 * 2**20
"""Growth of the used swap above which the machine counts as swapping."""


@dataclass(frozen=True)
class MemoryReading:
    """Memory usage in bytes.

    Attributes:
        used: memory of this process.
        peak: its peak since the last `MemoryMeter.reset`.
        free: memory that is available without swapping.
        swapped: swap in use by the whole machine.
    """

    used: int
    peak: int
    free: int
    swapped: int = 0


class MemoryMeter(Protocol):
    """Reads the usage of one kind of memory.

    Attributes:
        name: its name in a message.
    """

    name: str

    def reset(self) -> None:
        """Reset the peak, and release cached memory."""

    def read(self) -> MemoryReading:
        """Return the current usage."""


class HostMemory:
    """Memory of the host: of the machine, or of the control group if its limit is lower."""

    name = "memory"

    def reset(self) -> None:
        """Reset the peak on Linux; elsewhere it is kept, which overestimates the growth.

        Freed memory that the C library caches is released first; otherwise the next networks would reuse it
        and seem to need no memory.
        """
        with contextlib.suppress(OSError, AttributeError, TypeError):  # not glibc
            ctypes.CDLL(None).malloc_trim(0)
        try:
            Path("/proc/self/clear_refs").write_text("5", "utf-8")
        except OSError:
            return

    def read(self) -> MemoryReading:
        """Return the resident memory of this process and the available memory."""
        used, peak = resident()
        free, room = psutil.virtual_memory().available, _free_in_control_group()
        free = free if room is None else min(free, room)
        return MemoryReading(used, peak, free, psutil.swap_memory().used)


class GpuMemory:
    """Memory of the GPU that torch uses, by all processes."""

    name = "GPU memory"

    def reset(self) -> None:
        """Release the memory that torch caches."""
        import torch

        torch.cuda.empty_cache()

    def read(self) -> MemoryReading:
        """Return used and free memory; networks keep their memory, so the usage is also the peak."""
        import torch

        free, total = torch.cuda.mem_get_info()
        return MemoryReading(total - free, total - free, free)


class MemoryLimit:
    """Decides for each batch size whether it may be measured.

    Create it before the first network of the sweep is loaded: its memory usage is the baseline.

    Attributes:
        growth: bytes by which the last batch size increased the memory, by the first meter.
    """

    def __init__(self, meters: list[MemoryMeter]) -> None:
        self._meters = meters
        for meter in meters:
            meter.reset()
        first = [meter.read() for meter in meters]
        self._start = [reading.used for reading in first]
        self._swapped = [reading.swapped for reading in first]
        self._last: tuple[int, list[int]] | None = None

    @property
    def growth(self) -> int:
        """See the attributes."""
        return 0 if self._last is None else self._last[1][0]

    def record(self, batch: int) -> None:
        """Record the memory growth while `batch` is still loaded."""
        growth = [
            max(meter.read().peak - start, 0) for meter, start in zip(self._meters, self._start, strict=True)
        ]
        self._last = batch, growth

    def reason_against(self, batch: int) -> str | None:
        """Return why `batch` must not be measured, or None; call it after the last batch was unloaded."""
        for i, meter in enumerate(self._meters):
            meter.reset()
            reading = meter.read()
            if reading.swapped > self._swapped[i] + SWAP_BYTES:
                return "memory: the machine began to swap"
            if self._last is None:
                continue
            last, growth = self._last
            needed = round(growth[i] * max(batch / last, 1))
            if needed > SHARE * reading.free:
                return (
                    f"{meter.name}: a batch of {batch:,} may need {needed / 1e6:,.0f} MB (a batch of "
                    f"{last:,} used {growth[i] / 1e6:,.0f} MB); the limit is {SHARE:.0%} of the "
                    f"{reading.free / 1e6:,.0f} MB that are free"
                )
        return None


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error or its cause is an out-of-memory error of the host, CUDA or a runtime."""
    if error is None:
        return False
    text = f"{type(error).__name__} {error.message if isinstance(error, CompressError) else error}".lower()
    patterns = (
        "outofmemory",
        "out of memory",
        "out_of_memory",
        "failed to allocate",
        "bad_alloc",
        "bad allocation",
    )
    if isinstance(error, MemoryError) or any(pattern in text for pattern in patterns):
        return True
    return is_out_of_memory(error.__cause__)


def _free_in_control_group() -> int | None:
    """Return the free bytes of this process's control group; None without a limit."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used = (
            (folder / name).read_text("utf-8").strip() for name in ("memory.max", "memory.current")
        )
        # the page cache of files is reclaimed before a process is killed
        rows = (row.split() for row in (folder / "memory.stat").read_text("utf-8").splitlines())
        cache = {row[0]: int(row[1]) for row in rows if len(row) == 2}.get("inactive_file", 0)
    except (OSError, ValueError):
        return None
    return int(limit) - int(used) + cache if limit.isdecimal() and used.isdecimal() else None
