"""Record of a benchmark (`bench/results.json`): networks, times, settings, machine and its state."""

from __future__ import annotations

import html
import math
from pathlib import Path
from typing import Literal

from pydantic import Field

from compress.bench.protocol.energy import EnergyRecord
from compress.bench.protocol.gpu import GpuRecord
from compress.bench.protocol.machine import CpuState
from compress.bench.protocol.memory import Memory
from compress.bench.protocol.paired import WarmUp
from compress.bench.protocol.stats import Interval, Latency, Verdict
from compress.core.files import write_json
from compress.core.machine import Machine
from compress.core.records import read_record
from compress.core.spec import Record

SCHEMA_VERSION = 4
"""Version of results.json."""

READABLE = (2, 3, SCHEMA_VERSION)
"""Versions that can be read. Version 2 has no intervals of percentiles, no energy and no GPU state;
versions 2 and 3 have a single session, so their intervals do not include the variation between sessions."""

FILENAME = "results.json"


class ArtifactRecord(Record):
    """One network in the form that a back end ran.

    Attributes:
        label: ``dense`` or ``compact``; preceded by the name of the run or file if there are several.
        artefact: name of the run folder or of the file it belongs to.
        model, method: dense network and method of its run; None for a file without a manifest.
        file: name of the measured file; None if modules of a run were measured.
        sha256, bytes: of the file, or of the run's weights; None for a dense network with random weights.
        opset: opset of an ONNX file.
        precision: precision in the manifest; ``fp32`` for networks of a run.
        weights: where its weights are from.
        macs, params: costs of convolutions and linear layers for one image; None for a file without a run.
        top1: accuracy on test images recorded in the run or manifest, 0 to 1; None if not recorded.
        top1_images: number of those test images, the first ones of the set; None in version 2.
    """

    label: str
    artefact: str
    model: str | None = None
    method: str | None = None
    file: str | None
    sha256: str | None
    bytes: int | None
    opset: int | None = None
    precision: str | None = None
    weights: str
    macs: int | None = None
    params: int | None = None
    top1: float | None = None
    top1_images: int | None = None


class RatioRecord(Record):
    """A speed ratio with its 95% interval; 2 means twice as fast. See `stats.over_sessions`."""

    ratio: float
    low: float
    high: float
    pairs: int
    log_half_width: float
    sessions: int = 1


class SessionRecord(Record):
    """Result of one session; its intervals are computed from its own pairs only.

    Attributes:
        noise, speedup, others_load: see `BatchRecord`.
    """

    noise: RatioRecord
    speedup: RatioRecord
    others_load: float


class DeviceRecord(Record):
    """Times measured by the device's clock, in milliseconds; percentiles as in `SideRecord`."""

    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    mad_ms: float


class SideRecord(Record):
    """One network at one batch size; milliseconds of one inference of the whole batch.

    Attributes:
        label: label of the artifact.
        load_ms: time to load the file into a session of the runtime; median over the sessions.
        first_ms: the first inference, which no other number includes; median over the sessions.
        warm_up_inferences, warm_up_ms: warm-up of all sessions together.
        settled: whether the times became stable during the warm-up of every session.
        count: number of timed inferences.
        p90_ms, p99_ms: percentiles; None below 30 and 1000 inferences.
        mad_ms: median absolute deviation.
        images_per_s: images over the time of all inferences.
        repeats: inferences of one measurement of a pair; median over the sessions.
        peak_bytes, added_bytes: host memory, see `compress.bench.protocol.memory.Memory`.
        device: the same inferences by the device's clock; None if the back end runs on the host.
        p50_ends_ms, p99_ends_ms: 95% intervals, see `stats.percentile_interval`; None if there is no
            percentile, and in version 2. An upper end of None is unbounded.
        energy: energy of an inference by each counter of the machine; see `ComparisonRecord.energy`.
    """

    label: str
    load_ms: float
    first_ms: float
    warm_up_inferences: int
    warm_up_ms: float
    settled: bool
    count: int
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    mad_ms: float
    images_per_s: float
    repeats: int
    peak_bytes: int
    added_bytes: int
    device: DeviceRecord | None = None
    p50_ends_ms: tuple[float, float | None] | None = None
    p99_ends_ms: tuple[float, float | None] | None = None
    energy: tuple[EnergyRecord, ...] = ()


class BatchRecord(Record):
    """The comparison at one batch size.

    Attributes:
        noise: the baseline against a second one of itself in the same process (A/A).
        floor: noise floor: the log-ratio that A/A comparisons reach, see `stats.Interval.reach`.
        speedup: baseline over candidate, by the host's clock.
        device_speedup: the same by the device's clock.
        verdict: FASTER, SAME, SLOWER or UNCLEAR, of the candidate.
        mac_reduction: MACs of the baseline over those of the candidate; None if unknown.
        efficiency: `speedup.ratio` over `mac_reduction`.
        others_load: share of the processors that other processes used, 0 to 1.
        gpu: state of the GPU after each block of baseline against candidate; None if not recorded.
        sessions: result of each session, in order; empty in versions 2 and 3.
    """

    batch: int
    baseline: SideRecord
    candidate: SideRecord
    noise: RatioRecord
    floor: float
    speedup: RatioRecord
    device_speedup: RatioRecord | None = None
    verdict: Verdict
    mac_reduction: float | None
    efficiency: float | None
    others_load: float
    gpu: GpuRecord | None = None
    sessions: tuple[SessionRecord, ...] = ()


class ComparisonRecord(Record):
    """One candidate against its baseline on one back end, at every batch size.

    Attributes:
        timed: what a time includes and excludes.
        session: settings that the runtime reports for the baseline's session.
        energy: what the counters ``rapl`` and ``nvml`` measured, or ``not available`` and why; empty in
            version 2.
    """

    backend: str
    timed: str
    session: dict[str, str]
    energy: dict[str, str] = Field(default_factory=dict)
    baseline: ArtifactRecord
    candidate: ArtifactRecord
    batches: tuple[BatchRecord, ...]


class SkippedRecord(Record):
    """A comparison that was not measured on a back end, and why."""

    backend: str
    baseline: str
    candidate: str
    reason: str


class BenchResult(Record):
    """Result of one `compress bench`; `print(result)` shows a line for each comparison.

    Attributes:
        artefacts: names of the measured runs and files, without their folders.
        sessions: how many processes measured each comparison, one after the other.
        comparisons: grouped by back end, in the given order.
        skipped: comparisons that a back end cannot run.
    """

    schema_version: int = SCHEMA_VERSION
    kind: Literal["compress-bench"] = "compress-bench"
    created: str
    command: tuple[str, ...]
    artefacts: tuple[str, ...]
    protocol: str
    threads: int
    sessions: int = 1
    seed: int
    machine: Machine
    before: CpuState
    after: CpuState
    versions: dict[str, str]
    comparisons: tuple[ComparisonRecord, ...]
    skipped: tuple[SkippedRecord, ...] = ()

    def lines(self) -> list[str]:
        """Return a line of text for each comparison and batch size, and for each skipped comparison."""
        lines = [
            f"{comparison.candidate.label} against {comparison.baseline.label} on {comparison.backend}, "
            f"batch {entry.batch}: "
            f"{entry.speedup.ratio:.2f}x ({entry.speedup.low:.2f} to {entry.speedup.high:.2f}), "
            f"{entry.verdict.value}; {entry.baseline.p50_ms:.3f} ms -> {entry.candidate.p50_ms:.3f} ms"
            for comparison in self.comparisons
            for entry in comparison.batches
        ]
        return lines + [skipped_text(entry) for entry in self.skipped]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        """Return the lines as HTML for notebooks."""
        return "<br>".join(html.escape(line) for line in self.lines())


def skipped_text(entry: SkippedRecord) -> str:
    """Return a sentence about a comparison that was skipped."""
    return f"skipped on {entry.backend}: {entry.candidate} against {entry.baseline} ({entry.reason})"


def ratio_record(interval: Interval) -> RatioRecord:
    """Return an interval of log-ratios as ratios."""
    return RatioRecord(
        ratio=math.exp(interval.median),
        low=math.exp(interval.low),
        high=math.exp(interval.high),
        pairs=interval.pairs,
        log_half_width=interval.half_width,
        sessions=interval.sessions,
    )


def side_record(
    label: str,
    warm: WarmUp,
    times: Latency,
    *,
    load_ns: int,
    batch: int,
    repeats: int,
    memory: Memory,
    device: Latency | None = None,
    energy: tuple[EnergyRecord, ...] = (),
) -> SideRecord:
    """Return the record of one side, in milliseconds."""
    return SideRecord(
        label=label,
        load_ms=load_ns / 1e6,
        first_ms=warm.first_ns / 1e6,
        warm_up_inferences=warm.count,
        warm_up_ms=warm.total_ns / 1e6,
        settled=warm.settled,
        count=times.count,
        p50_ms=_ms(times.p50) or 0.0,
        p90_ms=_ms(times.p90),
        p99_ms=_ms(times.p99),
        mad_ms=times.mad / 1e6,
        images_per_s=batch * 1e9 / times.mean,
        repeats=repeats,
        peak_bytes=memory.peak,
        added_bytes=memory.added,
        device=None if device is None else _device(device),
        p50_ends_ms=_ends_ms(times.p50_ends),
        p99_ends_ms=_ends_ms(times.p99_ends),
        energy=energy,
    )


def _device(times: Latency) -> DeviceRecord:
    return DeviceRecord(
        p50_ms=_ms(times.p50) or 0.0,
        p90_ms=_ms(times.p90),
        p99_ms=_ms(times.p99),
        mad_ms=times.mad / 1e6,
    )


def save(result: BenchResult, path: Path) -> Path:
    """Write a result atomically and return its path."""
    write_json(path, result.model_dump(mode="json"))
    return path


def read(path: Path) -> BenchResult:
    """Read a result from a file, or from `bench/results.json` of a run folder.

    Raises:
        CompressError: the file is missing, damaged, or has another version.
    """
    path = path / "bench" / FILENAME if path.is_dir() else path
    hint = "measure again with `compress bench RUN`"
    return read_record(
        path, BenchResult, what="benchmark result", hint=hint, versions=READABLE, kind="compress-bench"
    )


def _ends_ms(ends: tuple[float, float] | None) -> tuple[float, float | None] | None:
    return None if ends is None else (ends[0] / 1e6, ends[1] / 1e6 if math.isfinite(ends[1]) else None)


def _ms(value: float | None) -> float | None:
    return None if value is None else value / 1e6
