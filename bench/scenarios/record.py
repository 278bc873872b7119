"""Record of `bench/scenarios.json`: results of each scenario, protocol, machine and its state."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Literal

from compress.bench.protocol.machine import CpuState
from compress.bench.results.record import ArtifactRecord, RatioRecord
from compress.bench.scenarios.latency_summary import LatencySummary
from compress.bench.scenarios.options import Options
from compress.bench.scenarios.rate_search import bracket
from compress.bench.scenarios.rates import RateRecord
from compress.core.files import write_json
from compress.core.machine import Machine
from compress.core.records import read_record
from compress.core.spec import Record

SCHEMA_VERSION = 1
"""Version of scenarios.json."""

KIND = "compress-scenarios"

FILENAME = "scenarios.json"


class Conditions(Record):
    """Conditions of the measurement of a scenario.

    Attributes:
        others_load: share of the processors that other processes used during the measurement, 0 to 1.
        seconds: duration, including loading and warm-up.
    """

    others_load: float
    seconds: float


class StreamSide(Record):
    """One network in the single-stream scenario.

    Attributes:
        settled: whether the times became stable during the warm-up.
        first_ms: time of the first inference, which is not part of `times`.
        repeats: consecutive queries of one measurement.
        times: latencies of the queries.
    """

    label: str
    settled: bool
    first_ms: float
    repeats: int
    times: LatencySummary


class SingleStream(Conditions):
    """One query at a time, batch 1, each sent when the last is answered.

    Attributes:
        speedup: time of the baseline over that of the candidate, from the medians of pairs.
    """

    baseline: StreamSide
    candidate: StreamSide
    speedup: RatioRecord


class Throughput(Record):
    """One network at one batch size.

    Attributes:
        images_per_s: images over the time of all inferences.
        low, high: its 95% interval, with measurements as samples; None: no upper end.
        batch_ms: median time of an inference.
        count: number of inferences.
    """

    label: str
    batch: int
    images_per_s: float
    low: float
    high: float | None
    batch_ms: float
    count: int


class OfflineBatch(Record):
    """Both networks at one batch size.

    Attributes:
        ratio: throughput of the candidate over that of the baseline, from the medians of pairs.
        grown_bytes: memory that both networks and their batches added, on the GPU if one is used.
    """

    batch: int
    baseline: Throughput
    candidate: Throughput
    ratio: RatioRecord
    grown_bytes: int


class Offline(Conditions):
    """Throughput over batch sizes.

    Attributes:
        batches: batch sizes, ascending.
        stopped: why no larger batch size was measured.
        best: batch size with the largest throughput of the baseline and of the candidate.
        best_ratio: throughput of the candidate over that of the baseline at their best batch sizes.
        best_low, best_high: range of that ratio from both intervals; unpaired if the batch sizes differ.
    """

    batches: tuple[OfflineBatch, ...]
    stopped: str
    best: tuple[Throughput, Throughput]
    best_ratio: float
    best_low: float
    best_high: float | None


class ServerSide(Record):
    """One network in the server scenario.

    Attributes:
        capacity_qps: queries per second with full, consecutive batches.
        rates: measured rates, ascending.
        holds_qps: largest rate that meets the bound and is below every rate that exceeds it, or None.
        fails_qps: smallest rate that exceeds the bound, or None.
        ended: why no further rate was measured.
    """

    label: str
    capacity_qps: float
    rates: tuple[RateRecord, ...]
    holds_qps: float | None
    fails_qps: float | None
    ended: str

    @property
    def capacities(self) -> tuple[float, float] | None:
        """Smallest and largest `capacity_qps` of the rates, which show changes of the machine's speed."""
        capacities = [entry.capacity_qps for entry in self.rates]
        return (min(capacities), max(capacities)) if capacities else None

    @property
    def at_one_speed(self) -> tuple[float | None, float | None]:
        """`holds_qps` and `fails_qps`, corrected to the median speed of the machine.

        The behavior of a queue depends on the offered load, so a rate that was measured while the machine was
        slow corresponds to a larger rate at the median speed.
        """
        if not self.rates:
            return None, None
        capacity = statistics.median(entry.capacity_qps for entry in self.rates)
        return bracket((entry.load * capacity, entry.outcome) for entry in self.rates)


class Server(Conditions):
    """Largest rate of Poisson arrivals at which the p99 meets a bound.

    Attributes:
        bound_ms: bound on the p99 of both networks.
        bound_from: origin of the bound.
        searched: whether the rates were searched; otherwise they were given.
        max_batch: largest number of queries of an inference.
        ratio: largest rate that meets the bound, candidate over baseline, at one speed of the machine
            (`ServerSide.at_one_speed`); None if one of them is unknown.
        ratio_low, ratio_high: range of the ratio from the rates that meet and exceed the bound; None:
            unbounded.
    """

    bound_ms: float
    bound_from: str
    searched: bool
    max_batch: int
    baseline: ServerSide
    candidate: ServerSide
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None


class ScenarioMeasurements(Record):
    """Measurements of one comparison on one back end; None for a scenario that was not requested.

    Attributes:
        timed: what the time of an inference includes and excludes.
        session: settings that the runtime reports for the baseline's session.
    """

    timed: str
    session: dict[str, str]
    single_stream: SingleStream | None = None
    offline: Offline | None = None
    server: Server | None = None

    @property
    def others_load(self) -> float:
        """Largest load of its scenarios."""
        return max(
            (one.others_load for one in (self.single_stream, self.offline, self.server) if one), default=0.0
        )


class ScenarioComparison(ScenarioMeasurements):
    """One candidate and its baseline on one back end."""

    backend: str
    baseline: ArtifactRecord
    candidate: ArtifactRecord


class ScenarioResult(Record):
    """Result of `compress bench --scenario`.

    Attributes:
        artefacts: names of the measured runs and files, without their folders.
        options: options of the measurement.
        protocol: description of how each scenario was measured.
    """

    schema_version: int = SCHEMA_VERSION
    kind: Literal["compress-scenarios"] = "compress-scenarios"
    created: str
    command: tuple[str, ...]
    artefacts: tuple[str, ...]
    options: Options
    protocol: dict[str, str]
    threads: int
    seed: int
    machine: Machine
    before: CpuState
    after: CpuState
    versions: dict[str, str]
    comparisons: tuple[ScenarioComparison, ...]

    def __str__(self) -> str:
        """Return one line per comparison and scenario."""
        lines = []
        for entry in self.comparisons:
            name = f"{entry.candidate.label} over {entry.baseline.label} on {entry.backend}"
            if entry.single_stream is not None:
                lines.append(f"{name}, single stream: {entry.single_stream.speedup.ratio:.2f}x")
            if entry.offline is not None:
                lines.append(f"{name}, offline: {entry.offline.best_ratio:.2f}x images/s")
            if entry.server is not None:
                ratio = entry.server.ratio
                lines.append(f"{name}, server: {'unknown' if ratio is None else f'{ratio:.2f}x queries/s'}")
        return "\n".join(lines)


def save(result: ScenarioResult, path: Path) -> Path:
    """Write a result atomically; return its path."""
    write_json(path, result.model_dump(mode="json"))
    return path


def is_stored(path: Path | None) -> bool:
    """Return whether a path is a stored scenario result, or a run folder whose only result is one."""
    if path is None:
        return False
    if path.is_dir():
        return (path / "bench" / FILENAME).is_file() and not (path / "bench" / "results.json").is_file()
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(value, dict) and value.get("kind") == KIND


def read(path: Path) -> ScenarioResult:
    """Read a result that `save` wrote.

    Args:
        path: the file, or a run folder with `bench/scenarios.json`.

    Raises:
        CompressError: the file is missing, damaged, or of another version.
    """
    path = path / "bench" / FILENAME if path.is_dir() else path
    hint = "measure again with `compress bench RUN --scenario NAME`"
    return read_record(
        path, ScenarioResult, what="scenario result", hint=hint, versions=(SCHEMA_VERSION,), kind=KIND
    )
