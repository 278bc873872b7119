"""Peak rate of a device in large matrix products, the upper limit for a training step."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SIZES = {"cuda": 8192, "cpu": 1024}
"""Rows and columns by device; large enough that memory bandwidth and launch do not limit a product."""

SECONDS = 1.0
"""Approximate duration of the measurement."""


@dataclass(frozen=True)
class Peak:
    """Multiply-accumulates per second of square matrix products.

    Attributes:
        macs_per_s: from the median time of a product. best_macs_per_s: from the shortest.
        size: rows and columns. precision: of the factors. count: number of products measured.
    """

    macs_per_s: float
    best_macs_per_s: float
    size: int
    precision: str
    count: int


def matmul_peak(device: str, precision: str, size: int | None = None, seconds: float = SECONDS) -> Peak:
    """Measure products of two `[size, size]` matrices for about `seconds`, after a short warm-up."""
    n = size or SIZES[device]
    random = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(n, n, generator=random, device=device).to(DTYPES[precision]) for _ in range(2))
    _time_products(a, b, seconds / 4)
    times = torch.tensor(_time_products(a, b, seconds), dtype=torch.float64)
    macs = float(n) ** 3
    return Peak(macs / float(times.median()), macs / float(times.min()), n, precision, len(times))


def _time_products(a: Tensor, b: Tensor, seconds: float) -> list[float]:
    """Return the seconds of each product measured within `seconds`, at least three."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        times.append(_on_gpu(a, b) if a.is_cuda else _on_cpu(a, b))
    return times


def _on_cpu(a: Tensor, b: Tensor) -> float:
    start = time.perf_counter()
    a @ b
    return time.perf_counter() - start


def _on_gpu(a: Tensor, b: Tensor) -> float:
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    a @ b
    last.record()
    last.synchronize()
    return float(first.elapsed_time(last)) / 1e3
