"""Energy of an inference, where the machine counts it: RAPL for the processor, NVML for an NVIDIA GPU.

A counter stands for a whole package or GPU: what other processes and idling take is in it. So it is read
around about two seconds of one network's inferences, and never set against the other network's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.bench.backends import Timed
from compress.bench.protocol.machine import wait_for_rest
from compress.core.spec import Record

POWERCAP = Path("/sys/class/powercap")
"""Where Linux lists the zones of RAPL, of Intel and AMD processors alike."""

LOAD_NS = 2_000_000_000
"""Inferences of about this long (2 s) stand between two readings: NVML counts in steps of up to 0.1 s."""


class EnergyRecord(Record):
    """What a counter says of one network.

    Attributes:
        source: such as ``rapl package-0`` or ``nvml``.
        joules: of one inference of the whole batch, idling and other processes included.
        watts: mean power meanwhile.
        inferences: how many it rests on.
    """

    source: str
    joules: float
    watts: float
    inferences: int


@dataclass
class Counter:
    """A counter of energy that may start again from zero.

    Attributes:
        source: see `EnergyRecord`.
        read: returns joules since some time in the past.
        wraps: joules after which it starts from zero; None where it does not.
    """

    source: str
    read: Callable[[], float]
    wraps: float | None = None

    def since(self, before: float) -> float:
        """Return the joules since it read `before`; it may have started again once."""
        used = self.read() - before
        return used + self.wraps if used < 0 and self.wraps is not None else used


@dataclass(frozen=True)
class Energy:
    """What counts energy here, and why the rest does not.

    Attributes:
        counters: those that can be read.
        said: for ``rapl`` and ``nvml``, what is counted, or ``not available`` with the reason.
    """

    counters: tuple[Counter, ...]
    said: dict[str, str]

    def of(self, runner: Timed, typical_ns: float) -> tuple[EnergyRecord, ...]:
        """Run a warm network for `LOAD_NS` and return what each counter says; nothing without counters."""
        if not self.counters:
            return ()
        wait_for_rest()
        count = max(1, round(LOAD_NS / max(typical_ns, 1.0)))
        before, start = [counter.read() for counter in self.counters], time.perf_counter()
        runner.run(count)
        used = [counter.since(first) for counter, first in zip(self.counters, before, strict=True)]
        seconds = time.perf_counter() - start
        return tuple(
            EnergyRecord(
                source=counter.source, joules=joules / count, watts=joules / seconds, inferences=count
            )
            for counter, joules in zip(self.counters, used, strict=True)
        )


def energy(nvml: tuple[Any, Any] | str, powercap: Path = POWERCAP) -> Energy:
    """Return what counts energy on this machine.

    Args:
        nvml: the library and the GPU's handle (`compress.bench.protocol.gpu.handle`), or why there is none.
        powercap: folder of the RAPL zones.
    """
    processor, gpu = rapl(powercap), _nvml(nvml)
    said = {"rapl": _said(processor), "nvml": _said(gpu)}
    found = [counter for part in (processor, gpu) if not isinstance(part, str) for counter in part]
    return Energy(tuple(found), said)


def rapl(root: Path = POWERCAP) -> tuple[Counter, ...] | str:
    """Return a counter for each package, memory and platform zone under `root`, or why there is none."""
    if not root.is_dir():
        return f"there is no {root} (RAPL needs Linux on the machine itself, few virtual machines have it)"
    found, refused = list[Counter](), ""
    for zone in sorted(root.glob("intel-rapl:*")):
        try:
            name = (zone / "name").read_text("ascii").strip()
            if not name.startswith(("package", "dram", "psys")):
                continue  # cores and graphics are part of their package
            limit = int((zone / "max_energy_range_uj").read_text("ascii")) / 1e6
            counter = Counter(f"rapl {_label(name, zone)}", _reader(zone / "energy_uj"), limit)
            counter.read()
        except (OSError, ValueError) as error:
            refused = f"{zone / 'energy_uj'} cannot be read: {getattr(error, 'strerror', None) or error}"
            continue
        found.append(counter)
    return tuple(found) or refused or f"{root} lists no RAPL zone"


def _label(name: str, zone: Path) -> str:
    """Name of a zone; memory is told apart by its package."""
    return f"{name}-{zone.name.split(':')[1]}" if name == "dram" else name


def _reader(path: Path) -> Callable[[], float]:
    return lambda: int(path.read_text("ascii")) / 1e6


def _nvml(found: tuple[Any, Any] | str) -> tuple[Counter, ...] | str:
    if isinstance(found, str):
        return found
    library, handle = found

    def read() -> float:
        return int(library.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3

    try:
        read()
    except library.NVMLError as error:
        return f"the GPU does not count its energy: {error}"
    return (Counter("nvml", read),)


def _said(found: Sequence[Counter] | str) -> str:
    if isinstance(found, str):
        return f"not available: {found}"
    return "counted: " + ", ".join(counter.source for counter in found)
