"""`bench/results.json`: what was measured, how, and on which machine in which state."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from bench.machine import CpuState
from bench.paired import Comparison, WarmUp
from bench.stats import Interval, Latency, Verdict
from compress.artifact.machine import Machine
from compress.artifact.run import first_fault
from compress.errors import CompressError, Exit
from compress.files import read_json, write_json
from compress.spec import Record

SCHEMA_VERSION = 1
"""Version of results.json."""

FILENAME = "results.json"


class ArtefactRecord(Record):
    """One of the two networks.

    Attributes:
        label: ``dense`` or ``compact``.
        file: name of the ONNX file measured.
        weights: whose weights it holds.
        macs: of one image, convolution and linear.
        top1: accuracy on the test set as the run recorded it, 0 to 1; None where it did not.
    """

    label: str
    file: str
    sha256: str
    bytes: int
    opset: int
    weights: str
    macs: int
    params: int
    top1: float | None = None


class RatioRecord(Record):
    """A speed ratio: the median of the pairs with its 95% interval; 2 means twice as fast."""

    ratio: float
    low: float
    high: float
    pairs: int
    log_half_width: float


class SideRecord(Record):
    """One network at one batch size; milliseconds of one inference of the whole batch.

    Attributes:
        label: which artefact.
        load_ms: from the file to a session.
        first_ms: the first inference, in none of the other numbers.
        warm_up_inferences, warm_up_ms, settled: how it was warmed up, and whether its median came to rest.
        count: inferences the numbers below rest on.
        p90_ms, p99_ms: None below 30 and 1000 inferences.
        mad_ms: median absolute deviation.
        images_per_s: images over the time of all inferences.
        repeats: inferences of one measurement of a pair.
        peak_bytes, added_bytes: see `bench.memory.Memory`.
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


class BatchRecord(Record):
    """The comparison at one batch size.

    Attributes:
        noise: the dense network against a second session of itself (A/A).
        floor: log-ratio up to which the machine differs from itself, see `bench.stats.Interval.reach`.
        speedup: dense over compact.
        verdict: FASTER, SAME, SLOWER or UNCLEAR, of the compact network.
        mac_reduction: MACs of the dense over those of the compact network.
        efficiency: `speedup.ratio` over `mac_reduction`.
        others_load: share of the processors that other processes took meanwhile, 0 to 1.
    """

    batch: int
    dense: SideRecord
    compact: SideRecord
    noise: RatioRecord
    floor: float
    speedup: RatioRecord
    verdict: Verdict
    mac_reduction: float
    efficiency: float
    others_load: float


class BenchResult(Record):
    """Everything `compress bench` found about a run."""

    schema_version: int = SCHEMA_VERSION
    kind: Literal["compress-bench"] = "compress-bench"
    created: str
    command: tuple[str, ...]
    run: str
    model: str
    method: str
    backend: str
    timed: str
    protocol: str
    session: dict[str, str]
    threads: int
    seed: int
    machine: Machine
    before: CpuState
    after: CpuState
    versions: dict[str, str]
    dense: ArtefactRecord
    compact: ArtefactRecord
    batches: tuple[BatchRecord, ...]


def ratio_record(interval: Interval) -> RatioRecord:
    """Return an interval of log-ratios as ratios."""
    return RatioRecord(
        ratio=math.exp(interval.median),
        low=math.exp(interval.low),
        high=math.exp(interval.high),
        pairs=interval.pairs,
        log_half_width=interval.half_width,
    )


def side_record(
    label: str,
    warm: WarmUp,
    times: Latency,
    *,
    load_ns: int,
    batch: int,
    repeats: int,
    peak_bytes: int,
    added_bytes: int,
) -> SideRecord:
    """Return what was measured of one side, in milliseconds."""
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
        peak_bytes=peak_bytes,
        added_bytes=added_bytes,
    )


def noise_floor(same: Comparison) -> float:
    """Return the log-ratio up to which the machine differs from itself, from an A/A comparison."""
    return same.ratio.reach


def save(result: BenchResult, folder: Path) -> Path:
    """Write `results.json` into a folder, whole or not at all; return its path."""
    path = folder / FILENAME
    write_json(path, result.model_dump(mode="json"))
    return path


def read(path: Path) -> BenchResult:
    """Return a result that `save` wrote.

    Raises:
        CompressError: missing, damaged, or of another version.
    """
    hint = "measure again with `compress bench RUN`"
    value = read_json(path, what="benchmark result", hint=hint)
    if value.get("schema_version") != SCHEMA_VERSION or value.get("kind") != "compress-bench":
        raise CompressError(
            f"{str(path)!r} is {value.get('kind')!r} of schema version {value.get('schema_version')!r}; "
            f"this version of compress reads 'compress-bench' of {SCHEMA_VERSION}",
            hint=hint,
            code="schema-version",
            exit=Exit.MISSING,
        )
    try:
        return BenchResult.model_validate(value)
    except ValidationError as error:
        raise CompressError(
            f"the benchmark result {str(path)!r} is damaged: {first_fault(error)}",
            hint=hint,
            code="damaged-file",
            exit=Exit.MISSING,
        ) from error


def _ms(value: float | None) -> float | None:
    return None if value is None else value / 1e6
