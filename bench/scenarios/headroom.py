"""How far batch sizes can grow before memory ends: foreseen from what the last one took, never tried out.

A batch twice as large takes at most about twice the memory: its activations double, its weights do not. So
a batch size is begun only where twice the growth that was measured for its half is well within what is
free. Both networks of a comparison are loaded together, since they are measured in turns; it is their
memory that counts.
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
"""Share of the memory that is free now which a batch size may be foreseen to take."""

SWAP_BYTES = 64 * 2**20
"""Growth of the used swap from which on the machine counts as swapping."""


@dataclass(frozen=True)
class Reading:
    """The memory of now, in bytes.

    Attributes:
        held: what this process takes. peak: the most it took since the last `Meter.begin`.
        free: what may still be taken without swapping.
        swapped: swap in use by the whole machine.
    """

    held: int
    peak: int
    free: int
    swapped: int = 0


class Meter(Protocol):
    """Reads one kind of memory.

    Attributes:
        what: its name in a sentence.
    """

    what: str

    def begin(self) -> None:
        """Forget the peak so far, and give back what is kept but not used."""

    def read(self) -> Reading:
        """Return what is so now."""


class HostMemory:
    """Memory of the host: of the machine, or of the control group where that has less."""

    what = "memory"

    def begin(self) -> None:
        """Let Linux begin the peak anew; elsewhere it stays, which errs to the safe side.

        What the C library keeps of freed memory is given back first: else the next networks would take that
        and seem to need nothing.
        """
        with contextlib.suppress(OSError, AttributeError, TypeError):  # where it is not glibc
            ctypes.CDLL(None).malloc_trim(0)
        try:
            Path("/proc/self/clear_refs").write_text("5", "utf-8")
        except OSError:
            return

    def read(self) -> Reading:
        """Return the resident memory of this process and what is available."""
        held, peak = resident()
        free, room = psutil.virtual_memory().available, _group_room()
        return Reading(held, peak, free if room is None else min(free, room), psutil.swap_memory().used)


class GpuMemory:
    """Memory of the GPU that torch uses, by every process."""

    what = "memory of the GPU"

    def begin(self) -> None:
        """Give back what torch keeps but does not use."""
        import torch

        torch.cuda.empty_cache()

    def read(self) -> Reading:
        """Return what is used and free; the networks keep what they took, so that now is the peak."""
        import torch

        free, total = torch.cuda.mem_get_info()
        return Reading(total - free, total - free, free)


class Headroom:
    """Decides before each batch size whether it may be begun.

    Attributes:
        grown: bytes by which the last batch size grew the memory, of the first meter.
    """

    def __init__(self, meters: list[Meter]) -> None:
        """Take the memory of now, without a network of the sweep, as the beginning."""
        self._meters = meters
        for meter in meters:
            meter.begin()
        first = [meter.read() for meter in meters]
        self._start = [reading.held for reading in first]
        self._swapped = [reading.swapped for reading in first]
        self._last: tuple[int, list[int]] | None = None

    @property
    def grown(self) -> int:
        """See the attributes."""
        return 0 if self._last is None else self._last[1][0]

    def measured(self, batch: int) -> None:
        """Take note of the growth while `batch` is still loaded."""
        grown = [
            max(meter.read().peak - start, 0) for meter, start in zip(self._meters, self._start, strict=True)
        ]
        self._last = batch, grown

    def forbids(self, batch: int) -> str | None:
        """Return why `batch` must not be begun, or None; nothing of the last one is loaded any more."""
        for i, meter in enumerate(self._meters):
            meter.begin()
            reading = meter.read()
            if reading.swapped > self._swapped[i] + SWAP_BYTES:
                return "memory: the machine began to swap"
            if self._last is None:
                continue
            last, grown = self._last
            needs = round(grown[i] * max(batch / last, 1))
            if needs > SHARE * reading.free:
                return (
                    f"{meter.what}: a batch of {batch:,} would take up to {needs / 1e6:,.0f} MB (by the "
                    f"{grown[i] / 1e6:,.0f} MB that {last:,} took), and {SHARE:.0%} of the "
                    f"{reading.free / 1e6:,.0f} MB that are free may be used"
                )
        return None


def ran_out(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, says that memory ended: the host's, CUDA's, a runtime's."""
    if error is None:
        return False
    text = f"{type(error).__name__} {error.message if isinstance(error, CompressError) else error}".lower()
    words = (
        "outofmemory",
        "out of memory",
        "out_of_memory",
        "failed to allocate",
        "bad_alloc",
        "bad allocation",
    )
    return isinstance(error, MemoryError) or any(word in text for word in words) or ran_out(error.__cause__)


def _group_room() -> int | None:
    """Bytes that the control group of this process leaves; None where there is no limit."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used = (
            (folder / name).read_text("utf-8").strip() for name in ("memory.max", "memory.current")
        )
        # what the page cache holds for files is given back before anything is killed
        rows = (row.split() for row in (folder / "memory.stat").read_text("utf-8").splitlines())
        cache = {row[0]: int(row[1]) for row in rows if len(row) == 2}.get("inactive_file", 0)
    except (OSError, ValueError):
        return None
    return int(limit) - int(used) + cache if limit.isdecimal() and used.isdecimal() else None
