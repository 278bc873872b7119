"""`bench/explain-BACKEND.json`: what each layer costs, dense and compact, what was lost, and why."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Literal

from compress.bench.explain.mapping import Kind
from compress.bench.protocol.machine import CpuState
from compress.bench.results.record import RatioRecord
from compress.core.files import write_json
from compress.core.machine import Machine
from compress.core.records import read_record
from compress.core.spec import Record

SCHEMA_VERSION = 1
"""Version of the file."""


class Cause(StrEnum):
    """Why time did not fall as the MACs did."""

    MISALIGNED = "misaligned width"
    MEMORY = "memory-bound"
    LAUNCH = "launch-bound"
    PROTECTED = "protected"
    UNEVEN = "uneven cut"
    CONVERSION = "format conversion"
    SCATTER = "residual scatter"
    NARROW = "too narrow"
    KERNEL = "other kernel"
    NO_MACS = "no MACs"
    NOISE = "noise"
    GAIN = "gain"
    UNEXPLAINED = "unexplained"
    REMAINDER = "remainder"


MEANING = {
    Cause.MISALIGNED: "the same layer at the nearest aligned width takes less time for each MAC",
    Cause.MEMORY: "below the roofline's ridge and near the bandwidth: moving its bytes takes too long",
    Cause.LAUNCH: "what calling the network or launching a node costs whatever its size",
    Cause.PROTECTED: "the layer was not cut",
    Cause.UNEVEN: "its MACs were cut less (+) or more (-) than the whole network's",
    Cause.CONVERSION: "changing a layout or a type between nodes",
    Cause.SCATTER: "putting channels back into the dense width (--residual scatter)",
    Cause.NARROW: "no width near it is faster for each MAC; only more channels would be",
    Cause.KERNEL: "the runtime computes it by another kernel than the dense layer",
    Cause.NO_MACS: "pooling, copies and the like: work that MACs do not count",
    Cause.NOISE: "smaller than what its own times differ by",
    Cause.GAIN: "its time fell more than its MACs",
    Cause.UNEXPLAINED: "measured, and no cause was found",
    Cause.REMAINDER: "what the nodes' times leave of the whole: profiling and noise",
}


class SideCost(Record):
    """A row on one side, of one inference of the whole batch.

    Attributes:
        ms: measured time, corrected for what the profiler adds; spread_ms: half-width of its interval.
        inputs, outputs: widths of a layer. macs, bytes: of a layer; bytes are input, weights and output.
        nodes: of the runtime. kernels: what computed them, in its words.
    """

    ms: float
    spread_ms: float = 0.0
    inputs: int | None = None
    outputs: int | None = None
    macs: int | None = None
    bytes: int | None = None
    nodes: int = 0
    kernels: tuple[str, ...] = ()

    @property
    def intensity(self) -> float | None:
        """MACs for each byte moved."""
        return None if self.macs is None or not self.bytes else self.macs / self.bytes

    @property
    def macs_per_s(self) -> float | None:
        """MACs a second."""
        return None if not self.macs or self.ms <= 0 else self.macs / (self.ms * 1e-3)


class Part(Record):
    """A part of a row's loss with its cause and the evidence."""

    cause: Cause
    ms: float
    why: str = ""


class Probe(Record):
    """A layer alone at some width on the same back end: see `compress.bench.explain.probes`."""

    name: str
    inputs: int
    outputs: int
    ms: float
    macs: int
    spread: float
    kernels: tuple[str, ...] = ()


class Row(Record):
    """A layer, or other work.

    Attributes:
        dense, compact: its cost on each side; a time of 0 where it is not there.
        own_ms: its time less what it would be had it fell as its own MACs.
        mix_ms: what it lost because its MACs fell otherwise than the whole network's.
        parts: of the loss, the largest first; they add up to it.
        better: nearest widths at which the layer is faster for each MAC, such as ``32 or 40``.
        saves_ms: what they would save.
    """

    name: str
    kind: Kind | Literal["call", "remainder"]
    op: str
    dense: SideCost
    compact: SideCost
    own_ms: float
    mix_ms: float
    parts: tuple[Part, ...]
    better: str | None = None
    saves_ms: float | None = None
    probes: tuple[Probe, ...] = ()

    @property
    def loss_ms(self) -> float:
        """Its time less the dense one over the network's MAC reduction."""
        return self.own_ms + self.mix_ms

    @property
    def cause(self) -> Cause:
        """The cause of its largest part."""
        return self.parts[0].cause


class RooflineRecord(Record):
    """See `compress.bench.explain.roofline.Roofline`; the ridge is in MACs a byte."""

    macs_per_s: float
    bytes_per_s: float
    ridge: float
    how: str


class ProfileRecord(Record):
    """How far the profile can be believed.

    Attributes:
        source: what the nodes' times are.
        slowed: time of an inference with the profiler over that without, dense and compact.
        node_us, profiled_us: cost of a node that computes next to nothing, and what the profiler shows.
        call_us: what an inference costs beside its nodes.
        scale: factor on all profiled times, of both sides, that makes them those of inferences without the
            profiler, measured in the same blocks.
        unseen: layers that no node of the runtime could be matched with.
    """

    source: str
    slowed: tuple[float, float]
    node_us: float
    profiled_us: float
    call_us: float
    scale: float
    unseen: tuple[str, ...] = ()


class Explanation(Record):
    """Everything `compress bench RUN --explain` found on one back end.

    Attributes:
        dense_ms, compact_ms: time of an inference, without the profiler; their ratio is the speed-up's.
        floor: log-ratio up to which the machine differs from itself.
        gap_ms: `compact_ms` less `dense_ms` over `mac_reduction`: what was lost. The rows' losses add up to
            it, the remainder being one of them.
        gap_noise_ms: half of what the noise can make of the gap.
        causes: losses by cause, the largest first; they add up to the gap too.
        remainder_ms: the loss of the row that holds what the nodes' times leave.
        remainder_noise_ms: what noise can make of it; `adds_up` says whether it is within.
        others_load: share of the processors that other processes took meanwhile, 0 to 1.
    """

    schema_version: int = SCHEMA_VERSION
    kind: Literal["compress-explain"] = "compress-explain"
    created: str
    command: tuple[str, ...]
    run: str
    model: str
    method: str
    backend: str
    batch: int
    threads: int
    machine: Machine
    before: CpuState
    after: CpuState
    versions: dict[str, str]
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


def filename(backend: str) -> str:
    """Return the name of the file of a back end's result."""
    return f"explain-{backend}.json"


def save(result: Explanation, path: Path) -> Path:
    """Write a result, whole or not at all; return its path."""
    write_json(path, result.model_dump(mode="json"))
    return path


def read(path: Path) -> Explanation:
    """Return a result that `save` wrote.

    Raises:
        CompressError: missing, damaged, or of another version (exit MISSING).
    """
    hint = "measure again with `compress bench RUN --explain`"
    return read_record(
        path, Explanation, what="explanation", hint=hint, versions=(SCHEMA_VERSION,), kind="compress-explain"
    )
