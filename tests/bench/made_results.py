"""Results as data: one comparison on one machine, with whatever a test wants to be otherwise."""

from __future__ import annotations

from typing import Any

from compress.bench.protocol.machine import CpuState
from compress.bench.protocol.stats import Verdict
from compress.bench.results.record import (
    ArtifactRecord,
    BatchRecord,
    BenchResult,
    ComparisonRecord,
    RatioRecord,
    SideRecord,
)
from compress.core.machine import Machine


def artifact(label: str, **other: Any) -> ArtifactRecord:
    values: dict[str, Any] = {
        "label": label,
        "artefact": "net",
        "file": f"{label}.onnx",
        "sha256": label,
        "bytes": 2_000_000 if label == "dense" else 1_000_000,
        "weights": "the run's",
        "macs": 400 if label == "dense" else 100,
        "params": 40 if label == "dense" else 10,
        "top1": 0.9 if label == "dense" else 0.89,
        "top1_images": 10_000,
    }
    return ArtifactRecord(**{**values, **other})


def side(label: str, p50_ms: float, **other: Any) -> SideRecord:
    values: dict[str, Any] = {
        "label": label,
        "load_ms": 1.0,
        "first_ms": 2.0,
        "warm_up_inferences": 10,
        "warm_up_ms": 300.0,
        "settled": True,
        "count": 1200,
        "p50_ms": p50_ms,
        "p90_ms": 1.1 * p50_ms,
        "p99_ms": 2 * p50_ms,
        "mad_ms": 0.01,
        "images_per_s": 1000.0,
        "repeats": 40,
        "peak_bytes": 50_000_000,
        "added_bytes": 1_000_000,
        "p50_ends_ms": (0.98 * p50_ms, 1.02 * p50_ms),
        "p99_ends_ms": (1.9 * p50_ms, 2.2 * p50_ms),
    }
    return SideRecord(**{**values, **other})


def speed(ratio: float, low: float, high: float) -> RatioRecord:
    return RatioRecord(ratio=ratio, low=low, high=high, pairs=30, log_half_width=0.01)


def batch(size: int = 1, *, candidate: dict[str, Any] | None = None, **other: Any) -> BatchRecord:
    """Dense 4 ms, compact 2 ms: 2.00x, 1.95 to 2.05, noise floor 1%."""
    values: dict[str, Any] = {
        "batch": size,
        "baseline": side("dense", 4.0),
        "candidate": side("compact", **{"p50_ms": 2.0, **(candidate or {})}),
        "noise": speed(1.0, 0.99, 1.01),
        "floor": 0.01,
        "speedup": speed(2.0, 1.95, 2.05),
        "verdict": Verdict.FASTER,
        "mac_reduction": 4.0,
        "efficiency": 0.5,
        "others_load": 0.0,
    }
    return BatchRecord(**{**values, **other})


def comparison(*batches: BatchRecord, **other: Any) -> ComparisonRecord:
    values: dict[str, Any] = {
        "backend": "ort-cpu",
        "timed": "one session.run",
        "session": {"intra_op_num_threads": "1"},
        "energy": {"rapl": "not available: there is no /sys/class/powercap"},
        "baseline": artifact("dense"),
        "candidate": artifact("compact"),
        "batches": batches or (batch(),),
    }
    return ComparisonRecord(**{**values, **other})


def result(*comparisons: ComparisonRecord, **other: Any) -> BenchResult:
    values: dict[str, Any] = {
        "created": "2026-11-21T08:00:00+00:00",
        "command": ("compress", "bench", "net"),
        "artefacts": ("net",),
        "protocol": "pairs",
        "threads": 1,
        "seed": 0,
        "machine": Machine(cpu="AMD EPYC", cores=2, memory_bytes=8_000_000_000, platform="Linux"),
        "before": CpuState(governor="performance", load_average=(0.1, 0.1, 0.1)),
        "after": CpuState(governor="performance", load_average=(0.5, 0.1, 0.1)),
        "versions": {"onnxruntime": "1.31.0"},
        "comparisons": comparisons or (comparison(),),
    }
    return BenchResult(**{**values, **other})
