"""The machine's two limits, measured on the spot: MACs a second on the back end, and bytes a second."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compress.bench.backends import RunConfig, cuda
from compress.bench.explain import probes
from compress.bench.explain.low import low
from compress.bench.explain.probes import Spec
from compress.bench.explain.profilers import Profiler

PEAKS = {
    "convolution": Spec(op="Conv", weight=(256, 256, 3, 3), source=(256, 14, 14), pads=(1, 1, 1, 1)),
    "product": Spec(op="Conv", weight=(512, 512, 1, 1), source=(512, 14, 14)),
}
"""Layers with aligned widths that keep a processor as busy as it can be: a convolution, a matrix product."""

SECONDS = 0.4
"""How long each limit is measured at least."""

PIECE = 4 * 2**20
"""Bytes that are copied at a time."""

FALLBACK_CACHE = 64 * 2**20
"""Size of the last cache where the system does not tell it."""


@dataclass(frozen=True)
class Roofline:
    """What the machine can do at most.

    Attributes:
        macs_per_s: of the back end, with the threads of the measurement.
        bytes_per_s: of a copy larger than the last cache, read and written bytes together.
        how: what was measured.
    """

    macs_per_s: float
    bytes_per_s: float
    how: str

    @property
    def ridge(self) -> float:
        """MACs for each byte from which on the arithmetic is the limit."""
        return self.macs_per_s / self.bytes_per_s


def measure(profiler: Profiler, config: RunConfig, correction_ns: float, folder: Path) -> Roofline:
    """Measure both limits with the threads, the batch size and the device of a configuration.

    Args:
        profiler: of the back end. config: of the measurement.
        correction_ns: see `compress.bench.explain.probes.measure`. folder: where files are made.
    """
    found = probes.measure(profiler, PEAKS, config, correction_ns, folder).values()
    fastest = min(found, key=lambda probed: probed.per_mac)
    best, peak = fastest.spec, config.batch * 1e9 / fastest.per_mac
    on_gpu = profiler.backend.startswith("trt") or config.device == "cuda"
    rate, size = _copy_on_gpu() if on_gpu else _copy(config.threads)
    kernel = "x".join(str(size) for size in best.weight[2:])
    how = (
        f"fastest of a {kernel} convolution from {best.weight[1]} to {best.weight[0]} channels at "
        f"{best.source[1]}x{best.source[2]}; a copy of {size / 1e6:.0f} MB"
    )
    return Roofline(peak, rate, how)


def _copy(threads: int) -> tuple[float, int]:
    """Bytes a second of a copy by that many threads, and the bytes that are copied.

    The copy goes round in pieces, and the faster ones count: what interrupts a piece is not the memory.
    """
    size = 4 * last_cache()
    source, target = np.ones(size // 8), np.ones(size // 8)  # both written: no page is new in the copy
    pieces = list(
        zip(np.array_split(source, size // PIECE), np.array_split(target, size // PIECE), strict=True)
    )
    times, end = list[float](), time.monotonic() + SECONDS
    with ThreadPoolExecutor(threads) as pool:
        while len(times) < len(pieces) or time.monotonic() < end:
            first = len(times) * threads
            some = [pieces[(first + i) % len(pieces)] for i in range(threads)]
            start = time.perf_counter()
            if threads == 1:
                np.copyto(some[0][1], some[0][0])
            else:
                list(pool.map(lambda two: np.copyto(two[1], two[0]), some))
            times.append(time.perf_counter() - start)
    moved = 2 * threads * source.nbytes / len(pieces)
    return moved / low(np.array(times)), source.nbytes


def _copy_on_gpu() -> tuple[float, int]:
    import torch

    source = torch.ones(2**28, dtype=torch.uint8, device="cuda")
    target, fastest = torch.empty_like(source), float("inf")
    for _ in range(20):
        first, last = cuda.event(), cuda.event()
        first.record()
        target.copy_(source)
        last.record()
        torch.cuda.synchronize()
        fastest = min(fastest, 1e-3 * first.elapsed_time(last))
    return 2 * source.numel() / fastest, source.numel()


def last_cache(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int:
    """Return the bytes of the first processor's largest cache."""
    units = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
    found = [re.fullmatch(r"(\d+)([KMG]?)", _text(file)) for file in folder.glob("index*/size")]
    sizes = [int(match[1]) * units[match[2]] for match in found if match]
    return max(sizes, default=FALLBACK_CACHE)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except OSError:
        return ""
