"""Energy of an inference from hardware counters: RAPL for the processor, NVML for an NVIDIA GPU.

A counter covers a whole package or GPU, including idle power and other processes. It is read before and
after about two seconds of inferences of one network; no ratio of two networks is computed from it.
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
"""Folder in which Linux lists the RAPL zones of Intel and AMD processors."""

LOAD_NS = 2_000_000_000
"""Duration of the inferences between two readings (2 s); NVML updates its counter every 0.1 s at worst."""


class EnergyRecord(Record):
    """Energy of one network by one counter.

    Attributes:
        source: such as ``rapl package-0`` or ``nvml``.
        joules: energy of one inference of the whole batch, idle power and other processes included.
        watts: mean power during the inferences.
        inferences: number of inferences measured.
    """

    source: str
    joules: float
    watts: float
    inferences: int


@dataclass
class Counter:
    """Energy counter that may wrap around to zero.

    Attributes:
        source: see `EnergyRecord`.
        read: returns the joules counted since an arbitrary start.
        wraps: joules at which it wraps to zero; None if it does not.
    """

    source: str
    read: Callable[[], float]
    wraps: float | None = None

    def since(self, before: float) -> float:
        """Return the joules used since the reading `before`; the counter may have wrapped once."""
        used = self.read() - before
        return used + self.wraps if used < 0 and self.wraps is not None else used


@dataclass(frozen=True)
class EnergyCounters:
    """Energy counters of this machine.

    Attributes:
        counters: the counters that can be read.
        sources: for ``rapl`` and ``nvml``: what is counted, or ``not available`` with the reason.
    """

    counters: tuple[Counter, ...]
    sources: dict[str, str]

    def measure(self, runner: Timed, typical_ns: float) -> tuple[EnergyRecord, ...]:
        """Run a warm network for `LOAD_NS` and return the energy by each counter; empty without counters."""
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


def find_counters(nvml: tuple[Any, Any] | str, powercap: Path = POWERCAP) -> EnergyCounters:
    """Return the energy counters of this machine.

    Args:
        nvml: result of `compress.bench.protocol.gpu.open_nvml`.
        powercap: folder of the RAPL zones.
    """
    processor, gpu = rapl_counters(powercap), _nvml_counters(nvml)
    sources = {"rapl": _source(processor), "nvml": _source(gpu)}
    counters = [counter for part in (processor, gpu) if not isinstance(part, str) for counter in part]
    return EnergyCounters(tuple(counters), sources)


def rapl_counters(root: Path = POWERCAP) -> tuple[Counter, ...] | str:
    """Return a counter for each package, memory and platform zone of RAPL, or why there is none."""
    if not root.is_dir():
        return f"there is no {root} (RAPL needs Linux; few virtual machines provide it)"
    counters, unreadable = list[Counter](), ""
    for zone in sorted(root.glob("intel-rapl:*")):
        try:
            name = (zone / "name").read_text("ascii").strip()
            if not name.startswith(("package", "dram", "psys")):
                continue  # cores and graphics are part of their package
            limit = int((zone / "max_energy_range_uj").read_text("ascii")) / 1e6
            counter = Counter(f"rapl {_label(name, zone)}", _reader(zone / "energy_uj"), limit)
            counter.read()
        except (OSError, ValueError) as error:
            unreadable = f"{zone / 'energy_uj'} cannot be read: {getattr(error, 'strerror', None) or error}"
            continue
        counters.append(counter)
    return tuple(counters) or unreadable or f"{root} lists no RAPL zone"


def _label(name: str, zone: Path) -> str:
    """Return the name of a zone; for memory with the number of its package."""
    return f"{name}-{zone.name.split(':')[1]}" if name == "dram" else name


def _reader(path: Path) -> Callable[[], float]:
    return lambda: int(path.read_text("ascii")) / 1e6


def _nvml_counters(nvml: tuple[Any, Any] | str) -> tuple[Counter, ...] | str:
    if isinstance(nvml, str):
        return nvml
    library, handle = nvml

    def read() -> float:
        return int(library.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3

    try:
        read()
    except library.NVMLError as error:
        return f"the GPU does not count its energy: {error}"
    return (Counter("nvml", read),)


def _source(counters: Sequence[Counter] | str) -> str:
    if isinstance(counters, str):
        return f"not available: {counters}"
    return "counted: " + ", ".join(counter.source for counter in counters)
