"""Roofline of the machine, measured: MACs per second of the back end and bytes per second of the memory."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compress.bench.backends import Profiler, RunConfig, cuda
from compress.bench.explain.microbenchmarks import LayerSpec, time_layers
from compress.bench.explain.robust_mean import robust_mean

PEAK_LAYERS = {
    "convolution": LayerSpec(op="Conv", weight=(256, 256, 3, 3), source=(256, 14, 14), pads=(1, 1, 1, 1)),
    "product": LayerSpec(op="Conv", weight=(512, 512, 1, 1), source=(512, 14, 14)),
}
"""Layers with aligned widths that come close to the peak throughput: a convolution and a matrix product."""

COPY_S = 0.4
"""Shortest measurement of the memory bandwidth, seconds."""

CHUNK_BYTES = 4 * 2**20
"""Bytes that are copied at a time."""

FALLBACK_CACHE = 64 * 2**20
"""Size of the last-level cache where the system does not report it."""


@dataclass(frozen=True)
class Roofline:
    """Upper limits of the machine.

    Attributes:
        macs_per_s: MACs per second of the back end, with the threads of the measurement.
        bytes_per_s: bandwidth of a copy larger than the last-level cache; read and written bytes both count.
        how: description of the two measurements.
    """

    macs_per_s: float
    bytes_per_s: float
    how: str

    @property
    def ridge(self) -> float:
        """MACs per byte above which arithmetic is the limit."""
        return self.macs_per_s / self.bytes_per_s


def measure_roofline(
    profiler: Profiler, config: RunConfig, correction_ns: float, folder: Path, *, on_gpu: bool
) -> Roofline:
    """Measure both limits with the threads, the batch size and the device of a configuration.

    Args:
        profiler: profiler of the back end.
        config: settings of the measurement.
        correction_ns: see `compress.bench.explain.microbenchmarks.time_layers`.
        folder: folder for temporary files.
        on_gpu: whether the back end runs on a GPU, whose memory bandwidth then counts.
    """
    timings = time_layers(profiler, PEAK_LAYERS, config, correction_ns, folder).values()
    fastest = min(timings, key=lambda timing: timing.ns_per_mac)
    best, peak = fastest.spec, config.batch * 1e9 / fastest.ns_per_mac

    rate, size = _gpu_bandwidth() if on_gpu else _host_bandwidth(config.threads)
    kernel = "x".join(str(size) for size in best.weight[2:])
    how = (
        f"{kernel} convolution from {best.weight[1]} to {best.weight[0]} channels at "
        f"{best.source[1]}x{best.source[2]}; copy of {size / 1e6:.0f} MB"
    )
    return Roofline(peak, rate, how)


def _host_bandwidth(threads: int) -> tuple[float, int]:
    """Return the bytes per second of a copy by this many threads, and the size of the copied array.

    The array is copied in chunks, and the lower tail of their times counts, so interruptions are left out.
    """
    size = 4 * last_cache()
    source, target = np.ones(size // 8), np.ones(size // 8)  # written first, so the copy faults no new page
    chunk_count = size // CHUNK_BYTES
    chunks = list(zip(np.array_split(source, chunk_count), np.array_split(target, chunk_count), strict=True))
    times, end = list[float](), time.monotonic() + COPY_S
    with ThreadPoolExecutor(threads) as pool:
        while len(times) < len(chunks) or time.monotonic() < end:
            first = len(times) * threads
            batch = [chunks[(first + i) % len(chunks)] for i in range(threads)]
            start = time.perf_counter()
            if threads == 1:
                np.copyto(batch[0][1], batch[0][0])
            else:
                list(pool.map(lambda chunk: np.copyto(chunk[1], chunk[0]), batch))
            times.append(time.perf_counter() - start)
    moved = 2 * threads * source.nbytes / len(chunks)
    return moved / robust_mean(np.array(times)), source.nbytes


def _gpu_bandwidth() -> tuple[float, int]:
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
    """Return the size in bytes of the largest cache of the first processor."""
    units = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
    matches = [re.fullmatch(r"(\d+)([KMG]?)", _text(file)) for file in folder.glob("index*/size")]
    sizes = [int(match[1]) * units[match[2]] for match in matches if match]
    return max(sizes, default=FALLBACK_CACHE)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except OSError:
        return ""
