"""What a report is made of: everything a run folder holds, as one record, which `--json` prints."""

from __future__ import annotations

from typing import Any, Literal

from compress.artifact.run import RunRecord
from compress.bench.explain.record import Explanation
from compress.bench.protocol.machine import CpuState
from compress.bench.protocol.stats import Verdict
from compress.bench.results.record import RatioRecord, SideRecord
from compress.bench.scenarios.record import ScenarioResult
from compress.core.machine import Machine
from compress.core.spec import Record
from compress.cost import LatencyTable
from compress.export.trust.manifest import FileRecord

SCHEMA_VERSION = 1
"""Version of the facts."""

Stage = Literal["dense", "narrow", "exported"]


class Missing(Record):
    """A part of the report that the run folder does not hold (yet).

    Attributes:
        part: what is missing. why: the reason. command: what makes it; None where no command does.
    """

    part: Literal["compact", "training", "layers", "export", "bench", "scenarios", "explain", "staircase"]
    why: str
    command: str | None = None


class Measured(Record):
    """One network on one back end at one batch size.

    Attributes:
        times: latency, throughput and memory.
        against: label of what it was compared with, and the results of that; None for a mere baseline.
        mac_reduction, efficiency: see `compress.bench.results.record.BatchRecord`.
        others_load: share of the processors that other processes took, 0 to 1.
    """

    backend: str
    batch: int
    threads: int
    times: SideRecord
    against: str | None = None
    speedup: RatioRecord | None = None
    verdict: Verdict | None = None
    floor: float | None = None
    mac_reduction: float | None = None
    efficiency: float | None = None
    others_load: float


class LineageRow(Record):
    """One artefact of a run, from the dense network to the last file.

    Attributes:
        run: name of the run. label: what the artefact is called.
        made: how it came to be, in a few words.
        top1: accuracy, 0 to 1. top1_on: on what it was measured.
        macs, params: of one image; None where they are not known.
        bytes: size of the file; of a network in a run its weights'.
        measured: on every back end and at every batch size.
    """

    run: str
    stage: Stage
    label: str
    made: str
    precision: str | None = None
    top1: float | None = None
    top1_on: str = ""
    macs: int | None = None
    params: int | None = None
    bytes: int | None = None
    measured: tuple[Measured, ...] = ()


class LayerRow(Record):
    """One layer, dense against compact.

    Attributes:
        width, macs: channels it makes, and multiply-accumulates of one image.
        dense_ms, compact_ms: measured time, where a result has it.
    """

    name: str
    width: int
    narrow_width: int
    macs: int
    narrow_macs: int
    dense_ms: float | None = None
    compact_ms: float | None = None


class ParityStep(Record):
    """One link of the chain that proves the deployed file computes what was trained.

    Attributes:
        compared: the two that were compared.
        max_rel: largest difference over the largest output; None where an output was not finite.
        limit: what was allowed. agreement: share of the images with the same class, where it was looked at.
    """

    compared: str
    images: int
    max_rel: float | None
    limit: float
    agreement: float | None = None
    passed: bool


class ExportFacts(Record):
    """One exported file.

    Attributes:
        record: the manifest's. fault: how the file differs from it now; None where it does not.
        is_current: whether it was made from the compact model that the run holds now.
    """

    record: FileRecord
    fault: str | None
    is_current: bool


class BenchFacts(Record):
    """How a benchmark was measured: all of `bench/results.json` but the comparisons.

    Attributes:
        timed: what one time contains, by back end. sessions: what each back end ran with.
        is_current: whether it was measured after the compact model was written.
    """

    created: str
    command: tuple[str, ...]
    protocol: str
    threads: int
    machine: Machine
    before: CpuState
    after: CpuState
    versions: dict[str, str]
    timed: dict[str, str]
    sessions: dict[str, dict[str, str]]
    others_load: float
    is_current: bool


class RunFacts(Record):
    """Everything about one run.

    Attributes:
        folder: as it was named. record: `run.json`.
        classes: names of the outputs.
        metrics: lines of `metrics.jsonl`.
        layers_complete: whether the layers add up to the costs that the run recorded.
        extra: what the compact model's record adds, such as the accuracy.
        explained: where the speed-up was lost, by `compress bench RUN --explain`.
        staircases: tables of latency against width, the newest first.
        signed: whether the export folder has a signature (which `compress verify` checks).
        scenarios: `bench/scenarios.json`; None where no scenario was measured.
        scenarios_current: whether they were measured after the compact model was written.
    """

    name: str
    folder: str
    record: RunRecord
    extra: dict[str, Any]
    lineage: tuple[LineageRow, ...]
    metrics: tuple[dict[str, Any], ...]
    layers: tuple[LayerRow, ...]
    layers_complete: bool
    parity: tuple[ParityStep, ...]
    exports: tuple[ExportFacts, ...]
    signed: bool
    bench: BenchFacts | None
    staircases: tuple[LatencyTable, ...] = ()
    explained: tuple[Explanation, ...] = ()
    scenarios: ScenarioResult | None = None
    scenarios_current: bool = True
    missing: tuple[Missing, ...]

    def lacks(self, part: str) -> Missing | None:
        """Return what is said about a part that is missing."""
        return next((entry for entry in self.missing if entry.part == part), None)


class ReportFacts(Record):
    """A report on one or more runs."""

    schema_version: int = SCHEMA_VERSION
    kind: Literal["compress-report"] = "compress-report"
    created: str
    runs: tuple[RunFacts, ...]

    @property
    def lineage(self) -> tuple[LineageRow, ...]:
        """The artefacts of all runs."""
        return tuple(row for run in self.runs for row in run.lineage)
