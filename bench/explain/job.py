"""What the process that explains is given, and what it answers."""

from __future__ import annotations

from pathlib import Path

from compress.bench.backends import RunConfig
from compress.bench.explain.record import Part, ProfileRecord, RooflineRecord, Row
from compress.bench.protocol.measure import Side
from compress.bench.results.record import RatioRecord
from compress.core.spec import Record


class Job(Record):
    """What one process explains.

    Attributes:
        backend: its name. config: of the session.
        dense, compact: what the back end loads; dense_onnx, compact_onnx: the same networks as ONNX files.
        blocks: how many.
    """

    backend: str
    config: RunConfig
    dense: Side
    compact: Side
    dense_onnx: Path
    compact_onnx: Path
    blocks: int


class Found(Record):
    """What was found: see the attributes of the same names of `compress.bench.explain.record.Explanation`."""

    session: dict[str, str]
    timed: str
    dense_ms: float
    compact_ms: float
    speedup: RatioRecord
    floor: float
    mac_reduction: float
    efficiency: float
    gap_ms: float
    gap_noise_ms: float
    rows: tuple[Row, ...]
    causes: tuple[Part, ...]
    remainder_ms: float
    remainder_noise_ms: float
    adds_up: bool
    roofline: RooflineRecord
    profile: ProfileRecord
    others_load: float
