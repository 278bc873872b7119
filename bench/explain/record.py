"""Record of `bench/explain-BACKEND.json`: cost of each layer, dense and compact, lost time and its causes."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Literal

from compress.bench.protocol.machine import CpuState
from compress.bench.results.record import RatioRecord
from compress.core.files import write_json
from compress.core.machine import Machine
from compress.core.records import read_record
from compress.core.spec import Record

SCHEMA_VERSION = 1
"""Version of the file."""


Kind = Literal["layer", "other", "conversion", "scatter"]
"""Kinds of rows that consist of a runtime's nodes."""


class Cause(StrEnum):
    """Why the time fell less than the MACs."""

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
    Cause.MISALIGNED: "the same layer takes less time per MAC at the nearest aligned width",
    Cause.MEMORY: "below the ridge point and near the memory bandwidth: limited by moving bytes",
    Cause.LAUNCH: "fixed cost of calling the network or launching a node",
    Cause.PROTECTED: "the layer was not cut",
    Cause.UNEVEN: "its MACs were cut less (+) or more (-) than those of the network",
    Cause.CONVERSION: "layout or type conversion between nodes",
    Cause.SCATTER: "writing channels back into the dense width (--residual scatter)",
    Cause.NARROW: "no near width is faster per MAC; only many more channels would be",
    Cause.KERNEL: "the runtime uses another kernel than for the dense layer",
    Cause.NO_MACS: "pooling, copies and other work that MACs do not count",
    Cause.NOISE: "smaller than the noise of its own times",
    Cause.GAIN: "its time fell more than its MACs",
    Cause.UNEXPLAINED: "measured, but no known cause applies",
    Cause.REMAINDER: "total time minus the sum of all nodes: profiling and noise",
}


class SideCost(Record):
    """Cost of a row in one network, for one inference of the whole batch.

    Attributes:
        ms: measured time, corrected for the overhead of the profiler.
        spread_ms: half-width of its 95% interval.
        inputs, outputs: widths of a layer.
        macs, bytes: costs of a layer; bytes are input, weights and output.
        nodes: number of the runtime's nodes.
        kernels: the runtime's names of the kernels.
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
        """Arithmetic intensity: MACs per byte moved."""
        return None if self.macs is None or not self.bytes else self.macs / self.bytes

    @property
    def macs_per_s(self) -> float | None:
        """MACs per second."""
        return None if not self.macs or self.ms <= 0 else self.macs / (self.ms * 1e-3)


class Part(Record):
    """Part of a row's loss with its cause and the measurement behind it."""

    cause: Cause
    ms: float
    why: str = ""


class Probe(Record):
    """Time of a single layer at one width, see `compress.bench.explain.microbenchmarks`."""

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
        dense, compact: cost in each network; a time of 0 if the row does not exist there.
        own_ms, mix_ms: the two terms of the loss, see `compress.bench.explain.loss`.
        parts: causes of the loss, the largest first; they add up to it.
        better: nearest widths at which the layer is faster per MAC, such as ``32 or 40``.
        saves_ms: time that they would save.
        probes: the layer timed alone at several widths.
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
        """Compact time minus dense time over the network's MAC reduction."""
        return self.own_ms + self.mix_ms

    @property
    def cause(self) -> Cause:
        """Cause of the largest part."""
        return self.parts[0].cause


class RooflineRecord(Record):
    """See `compress.bench.explain.roofline.Roofline`; the ridge point is in MACs per byte."""

    macs_per_s: float
    bytes_per_s: float
    ridge: float
    how: str


class ProfileRecord(Record):
    """Accuracy of the profile.

    Attributes:
        source: where the times of the nodes come from.
        slowed: time of an inference with the profiler over the time without, dense and compact.
        node_us, profiled_us: cost of a node that computes almost nothing, and its time in the profile.
        call_us: cost of an inference in addition to its nodes.
        scale: factor on the profiled times of both networks that makes them add up to the time of inferences
            without the profiler, measured in the same blocks.
        unseen: layers that no node of the runtime could be matched with.
    """

    source: str
    slowed: tuple[float, float]
    node_us: float
    profiled_us: float
    call_us: float
    scale: float
    unseen: tuple[str, ...] = ()


class LossAnalysis(Record):
    """Where the time of a compact network is lost on one back end; result of one measuring process.

    Attributes:
        session: settings of the runtime's session.
        timed: what one time includes.
        dense_ms, compact_ms: time of an inference without the profiler; their ratio is the speed-up.
        speedup: dense over compact, with its interval.
        floor: noise floor: log-ratio by which two sessions of the same network differ.
        mac_reduction: dense MACs over compact MACs.
        efficiency: speed-up over MAC reduction.
        gap_ms: lost time: `compact_ms` minus `dense_ms` over `mac_reduction`. The losses of all rows,
            including the remainder, add up to it.
        gap_noise_ms: half-width of the gap's noise.
        rows: layers and other work, in order of execution; then the call and the remainder.
        causes: losses by cause, the largest first; they add up to the gap too.
        remainder_ms: loss of the remainder row: total time minus the sum of all nodes.
        remainder_noise_ms: noise of the remainder.
        adds_up: whether the remainder is within its noise.
        roofline: measured limits of the machine.
        profile: accuracy of the profile.
        others_load: share of the processors that other processes used during the measurement, 0 to 1.
    """

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


class Explanation(LossAnalysis):
    """Result of `compress bench RUN --explain` on one back end: the analysis and how it was made.

    Attributes:
        run, model, method: name of the run, its network and its method.
        batch, threads: of the session.
        before, after: state of the processor before and after the measurement.
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

    def __str__(self) -> str:
        """Return the result in one line."""
        main = self.causes[0].cause.value if self.causes else "nothing"
        return (
            f"{self.run} on {self.backend}: {self.speedup.ratio:.2f}x faster with {self.mac_reduction:.2f}x "
            f"fewer MACs (efficiency {self.efficiency:.2f}); {self.gap_ms:+.3f} ms lost, most to {main}"
        )


def filename(backend: str) -> str:
    """Return the file name of a back end's result."""
    return f"explain-{backend}.json"


def save(result: Explanation, path: Path) -> Path:
    """Write a result atomically; return its path."""
    write_json(path, result.model_dump(mode="json"))
    return path


def read(path: Path) -> Explanation:
    """Read a result that `save` wrote.

    Raises:
        CompressError: the file is missing, damaged, or of another version (exit MISSING).
    """
    hint = "measure again with `compress bench RUN --explain`"
    return read_record(
        path, Explanation, what="explanation", hint=hint, versions=(SCHEMA_VERSION,), kind="compress-explain"
    )
