"""Contents of run folders as records: what the report shows and `--json` prints."""

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
"""Version of `ReportFacts`."""

Stage = Literal["dense", "narrow", "exported"]


class Missing(Record):
    """A part of the report that the run folder does not contain.

    Attributes:
        part: the missing part.
        why: the reason.
        command: command that creates it, or None.
    """

    part: Literal["compact", "training", "layers", "export", "bench", "scenarios", "explain", "staircase"]
    why: str
    command: str | None = None


class Measured(Record):
    """One network on one back end at one batch size.

    Attributes:
        times: latency, throughput and memory.
        against: label of the baseline it was compared with; None if it is the baseline.
        speedup, verdict, floor: results of that comparison.
        mac_reduction, efficiency: see `compress.bench.results.record.BatchRecord`.
        others_load: share of the processors that other processes used, 0 to 1.
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
    """One artifact of a run: the dense network, the compact network or an exported file.

    Attributes:
        run: name of the run.
        label: name of the artifact.
        made: how it was created, in a few words.
        top1: accuracy, 0 to 1.
        top1_on: images that it was measured on.
        macs, params: costs of one image; None if unknown.
        bytes: size of the file; for a network in a run, of its weights.
        measured: measurements on every back end and at every batch size.
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
        width, narrow_width: output channels, dense and compact.
        macs, narrow_macs: multiply-accumulates of one image, dense and compact.
        dense_ms, compact_ms: measured time, if known.
    """

    name: str
    width: int
    narrow_width: int
    macs: int
    narrow_macs: int
    dense_ms: float | None = None
    compact_ms: float | None = None


class ParityStep(Record):
    """One comparison of the chain from the trained network to the deployed file.

    Attributes:
        compared: the two networks that were compared.
        images: number of images.
        max_rel: largest difference over the largest output; None if an output was not finite.
        limit: largest allowed difference.
        agreement: share of the images with the same predicted class, if recorded.
        passed: whether the difference is allowed.
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
        record: record of the manifest.
        fault: how the file differs from the record, or None.
        is_current: whether it was made from the current compact model.
    """

    record: FileRecord
    fault: str | None
    is_current: bool


class BenchFacts(Record):
    """How a benchmark was measured: `bench/results.json` without the comparisons.

    Attributes:
        timed: what one time includes, by back end.
        sessions: settings of the session, by back end.
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
    """Contents of one run folder.

    Attributes:
        folder: path as given by the user.
        record: `run.json`.
        extra: additional values of the compact model's record, such as the accuracy.
        lineage: the artifacts.
        metrics: lines of `metrics.jsonl`.
        layers: layers of the network.
        layers_complete: whether the layers add up to the recorded costs.
        parity: comparisons from the trained network to the exported files.
        exports: the exported files.
        signed: whether the export folder has a signature, which `compress verify` checks.
        bench: how the benchmark was measured.
        staircases: latency tables, the newest first.
        explained: results of `compress bench explain`.
        scenarios: `bench/scenarios.json`, or None.
        scenarios_current: whether the scenarios were measured after the compact model was written.
        missing: parts that the folder does not contain.
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
        """Return the entry of a missing part; None if it is not missing."""
        return next((entry for entry in self.missing if entry.part == part), None)


class ReportFacts(Record):
    """A report on one or more runs."""

    schema_version: int = SCHEMA_VERSION
    kind: Literal["compress-report"] = "compress-report"
    created: str
    runs: tuple[RunFacts, ...]

    @property
    def lineage(self) -> tuple[LineageRow, ...]:
        """Artifacts of all runs."""
        return tuple(row for run in self.runs for row in run.lineage)
