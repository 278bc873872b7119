"""`bench/scenarios.json`: what each scenario found, how, and on which machine in which state."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Literal

from compress.bench.protocol.machine import CpuState
from compress.bench.results.record import ArtefactRecord, RatioRecord
from compress.bench.scenarios.options import Options
from compress.bench.scenarios.rates import RateRecord
from compress.bench.scenarios.search import bracket
from compress.bench.scenarios.times import Times
from compress.core.files import write_json
from compress.core.machine import Machine
from compress.core.records import read_record
from compress.core.spec import Record

SCHEMA_VERSION = 1
"""Version of scenarios.json."""

KIND = "compress-scenarios"

FILENAME = "scenarios.json"


class Measured(Record):
    """What the measurement of a scenario suffered and took.

    Attributes:
        others_load: share of the processors that other processes took meanwhile, 0 to 1.
        seconds: how long it took, loading and warming up included.
    """

    others_load: float
    seconds: float


class StreamSide(Record):
    """One network in the single stream.

    Attributes:
        settled: whether the warm-up came to rest. first_ms: the first inference, in none of the times.
        repeats: queries of one measurement, back to back.
    """

    label: str
    settled: bool
    first_ms: float
    repeats: int
    times: Times


class SingleStream(Measured):
    """One query at a time, batch 1, back to back.

    Attributes:
        speedup: baseline over candidate, of the pairs' medians.
    """

    baseline: StreamSide
    candidate: StreamSide
    speedup: RatioRecord


class Throughput(Record):
    """One network at one batch size.

    Attributes:
        images_per_s: images over the time of all inferences, with its 95% interval (of the mean time, the
            measurements being drawn).
        batch_ms: median time of an inference. count: of inferences.
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
        ratio: throughput of the candidate over the baseline's, of the pairs' medians.
        grown_bytes: by which both networks and their batch grew the memory, of the GPU where one is used.
    """

    batch: int
    baseline: Throughput
    candidate: Throughput
    ratio: RatioRecord
    grown_bytes: int


class Offline(Measured):
    """Throughput over batch sizes.

    Attributes:
        batches: ascending. stopped: why no larger one was measured, for people.
        best: the batch with the largest throughput of the baseline and of the candidate.
        best_ratio: of those two, candidate over baseline.
        best_low, best_high: what their intervals leave possible; not paired where the batches differ.
    """

    batches: tuple[OfflineBatch, ...]
    stopped: str
    best: tuple[Throughput, Throughput]
    best_ratio: float
    best_low: float
    best_high: float | None


class ServerSide(Record):
    """One network under queries that arrive at random.

    Attributes:
        capacity_qps: queries a second when its batches are full, back to back.
        rates: those tried, ascending.
        holds_qps: largest rate that holds with no smaller one that fails; None: none was seen to hold.
        fails_qps: smallest rate that fails; None: none was seen to.
        ended: why no further rate was tried.
    """

    label: str
    capacity_qps: float
    rates: tuple[RateRecord, ...]
    holds_qps: float | None
    fails_qps: float | None
    ended: str

    @property
    def capacities(self) -> tuple[float, float] | None:
        """The smallest and the largest `capacity_qps` of the rates: how far the machine's speed changed."""
        found = [entry.capacity_qps for entry in self.rates]
        return (min(found), max(found)) if found else None

    @property
    def at_one_speed(self) -> tuple[float | None, float | None]:
        """The largest rate that holds and the smallest that fails, had each been tried at the median speed.

        A rate that was tried while the machine was slow stands for a larger one: what a queue does depends on
        the offered load.
        """
        if not self.rates:
            return None, None
        capacity = statistics.median(entry.capacity_qps for entry in self.rates)
        return bracket((entry.load * capacity, entry.outcome) for entry in self.rates)


class Server(Measured):
    """The largest rate of Poisson arrivals at which the p99 keeps a bound.

    Attributes:
        bound_ms: of both networks. bound_from: where it comes from.
        searched: whether the rates were searched rather than given.
        ratio: largest rate that holds, candidate over baseline, at one speed (`ServerSide.at_one_speed`);
            None where one is not known.
        ratio_low, ratio_high: what the rates that hold and fail leave possible; None: no end.
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


class Found(Record):
    """What the process of a back end found for one comparison; None for a scenario that was not asked for.

    Attributes:
        timed: what one inference contains, and what it does not.
        session: what the baseline's session ran with, in the runtime's own words.
    """

    timed: str
    session: dict[str, str]
    single_stream: SingleStream | None = None
    offline: Offline | None = None
    server: Server | None = None

    @property
    def others_load(self) -> float:
        """The largest of its scenarios."""
        return max(
            (one.others_load for one in (self.single_stream, self.offline, self.server) if one), default=0.0
        )


class ScenarioComparison(Found):
    """One candidate against its baseline on one back end."""

    backend: str
    baseline: ArtefactRecord
    candidate: ArtefactRecord


class ScenarioResult(Record):
    """Everything one `compress bench --scenario` found.

    Attributes:
        artefacts: what was measured, as the user named it, without the folders.
        protocol: of each scenario, in words.
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


def save(result: ScenarioResult, path: Path) -> Path:
    """Write a result, whole or not at all; return its path."""
    write_json(path, result.model_dump(mode="json"))
    return path


def is_stored(path: Path | None) -> bool:
    """Whether a path is a stored result of scenarios, or a run folder that holds no other result."""
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
    """Return a result that `save` wrote: of a file, or `bench/scenarios.json` of a run folder.

    Raises:
        CompressError: missing, damaged, or of another version.
    """
    path = path / "bench" / FILENAME if path.is_dir() else path
    hint = "measure again with `compress bench RUN --scenario NAME`"
    return read_record(
        path, ScenarioResult, what="result of scenarios", hint=hint, versions=(SCHEMA_VERSION,), kind=KIND
    )
