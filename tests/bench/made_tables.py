"""Tables of latency against width as data, with whatever a test wants to be otherwise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from compress.core.machine import Machine
from compress.cost import LatencyTable, LayerShape
from compress.cost.latency import Curve, Entry, Point
from compress.cost.shapes import Axis

CONV = LayerShape(
    kind="conv", in_channels=32, out_channels=64, height=8, width=8, kernel=(3, 3), padding=(1, 1)
)

WIDTHS = (8, 15, 16, 17, 24, 31, 32, 33, 47, 48, 49, 63, 64)


def blocks(width: int, full: int = 64, block: int = 16) -> float:
    """A runtime that works in whole blocks."""
    return math.ceil(width / block) * block / full


def curve(
    axis: Axis = "out",
    widths: Sequence[int] = WIDTHS,
    ratio: Callable[[int], float] = blocks,
    **other: Any,
) -> Curve:
    points = [Point(width=w, ratio=ratio(w), low=0.99 * ratio(w), high=1.01 * ratio(w)) for w in widths]
    values: dict[str, Any] = {"axis": axis, "full_ms": 2.0, "points": points, "rounds": 18, "floor": 0.01}
    return Curve(**{**values, **other})


def entry(shape: LayerShape = CONV, *curves: Curve, layers: tuple[str, ...] = ("conv",)) -> Entry:
    inputs = curve("in", (8, 16, 24, 32), lambda width: width / 32)
    return Entry(shape=shape, layers=layers, curves=curves or (curve(), inputs))


def table(*entries: Entry, **other: Any) -> LatencyTable:
    values: dict[str, Any] = {
        "created": "2026-11-21T08:00:00+00:00",
        "command": ("compress", "bench", "net", "--staircase", "all"),
        "network": "net",
        "backend": "ort-cpu",
        "device": "AMD EPYC",
        "threads": 1,
        "batch": 1,
        "timed": "one session.run",
        "protocol": "rounds",
        "session": {"intra_op_num_threads": "1"},
        "machine": Machine(cpu="AMD EPYC", cores=2, memory_bytes=8_000_000_000, platform="Linux"),
        "versions": {"onnxruntime": "1.31.0"},
        "others_load": 0.0,
        "entries": entries or (entry(),),
    }
    return LatencyTable(**{**values, **other})
