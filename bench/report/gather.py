"""Read everything a run folder holds; what it does not hold is said with the command that makes it."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compress import artifact
from compress.artifact import CompactInfo, RunFolder
from compress.bench.explain import record as explanations
from compress.bench.explain.record import Explanation
from compress.bench.report.facts import (
    BenchFacts,
    ExportFacts,
    LayerRow,
    Missing,
    ParityStep,
    ReportFacts,
    RunFacts,
)
from compress.bench.report.layers import complete, layer_rows
from compress.bench.report.lineage import lineage
from compress.bench.report.measured import Told, own_name
from compress.bench.results import record
from compress.bench.results.record import BenchResult
from compress.bench.scenarios import record as scenario_record
from compress.bench.scenarios.options import Scenario
from compress.bench.scenarios.record import ScenarioResult
from compress.core.errors import CompressError
from compress.core.files import read_json
from compress.cost import LatencyTable
from compress.export.trust import manifest
from compress.training.metrics import read_metrics

GATES = {
    "sliced_vs_masked_dense": "sliced = masked dense",
    "compact_vs_trained": "compact = trained",
}
"""What the gates in verify.json compare."""

_log = logging.getLogger(__name__)


def gather(named: Sequence[str | Path]) -> ReportFacts:
    """Return the facts of the runs that are named.

    Raises:
        CompressError: no run is named, one twice, or a folder that holds no run (or one of another version).
    """
    folders = [Path(name) for name in named]
    resolved = [folder.resolve() for folder in folders]
    doubled = next((str(f) for i, f in enumerate(folders) if resolved[i] in resolved[:i]), None)
    if not folders or doubled is not None:
        what = "no run is named" if doubled is None else f"{doubled!r} is named twice"
        raise CompressError(what, hint="name run folders, each once", code="bad-option")
    readings = [_Reading(folder, RunFolder.open(folder.resolve())) for folder in folders]
    every = [reading.result() for reading in readings]
    return ReportFacts(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        runs=tuple(
            reading.facts(own, [other for other in every if other is not None and other is not own])
            for reading, own in zip(readings, every, strict=True)
        ),
    )


@dataclass
class _Reading:
    """One run folder, and what was found missing in it so far."""

    folder: Path
    run: RunFolder
    missing: list[Missing] = field(default_factory=list)

    def facts(self, own: BenchResult | None, others: Sequence[BenchResult]) -> RunFacts:
        """Everything in the folder, and what benchmarks in `others` say of the run."""
        name = self.run.path.name
        told = [Told(name, other) for other in others if other.artefacts.count(name) == 1]
        if own is not None:
            told.insert(0, Told(own_name(own, name), own))
        info = self._info()
        metrics = self._metrics()
        exports = self._exports(info)
        layers = self._layers(info)
        served = self._scenarios()
        return RunFacts(
            name=name,
            folder=str(self.folder),
            record=self.run.record,
            extra={} if info is None else info.extra,
            lineage=lineage(self.run, info, exports, told),
            metrics=metrics,
            layers=layers,
            layers_complete=info is not None and complete(layers, info),
            parity=_parity(self.run, exports) if info is not None else (),
            exports=exports,
            signed=(self.run.export / manifest.SIGNATURE).is_file(),
            bench=self._bench(told, info),
            explained=self._explained(),
            staircases=self._staircases(info),
            scenarios=served,
            scenarios_current=served is None
            or (info is not None and _time(info.created) <= _time(served.created)),
            missing=tuple(self.missing),
        )

    def result(self) -> BenchResult | None:
        """The run's own benchmark."""
        path = self.run.bench / record.FILENAME
        if not path.is_file():
            return None
        try:
            return record.read(path)
        except CompressError as error:
            self._miss("bench", error.message, self._command("bench"))
            return None

    def _explained(self) -> tuple[Explanation, ...]:
        """What `--explain` has found; a file that cannot be read is named."""
        found = []
        for path in sorted(self.run.bench.glob(explanations.filename("*"))):
            try:
                found.append(explanations.read(path))
            except CompressError as error:
                self._miss("explain", error.message, f"{self._command('bench')} --explain")
        return tuple(found)

    def _scenarios(self) -> ScenarioResult | None:
        path = self.run.bench / scenario_record.FILENAME
        if not path.is_file():
            return None
        try:
            return scenario_record.read(path)
        except CompressError as error:
            names = ",".join(Scenario)
            self._miss("scenarios", error.message, f"{self._command('bench')} --scenario {names}")
            return None

    def _command(self, name: str) -> str:
        return f"compress {name} {shlex.quote(str(self.folder))}"

    def _miss(self, part: Any, why: str, command: str | None) -> None:
        if all(entry.part != part for entry in self.missing):
            self.missing.append(Missing(part=part, why=why, command=command))

    def _info(self) -> CompactInfo | None:
        if (self.run.compact / "model.json").is_file():
            return artifact.compact_info(self.run)
        command = [*self.run.record.command]
        resumable = command[1:2] == ["train"] and "--resume" not in command
        again = shlex.join([*command, "--resume"] if resumable else command)
        self._miss("compact", "the run holds no compact network: it is not finished", again or None)
        return None

    def _metrics(self) -> tuple[dict[str, Any], ...]:
        rows = read_metrics(self.run.metrics_path)
        if not rows:
            cut = self.run.record.command[1:2] == ("slice",)
            self._miss("training", "it was cut without training" if cut else "no epoch is finished", None)
        return tuple(rows)

    def _layers(self, info: CompactInfo | None) -> tuple[LayerRow, ...]:
        if info is None:
            return ()
        try:
            return layer_rows(self.run, info)
        except (CompressError, KeyError) as error:
            why = error.message if isinstance(error, CompressError) else f"there are no weights {error}"
            self._miss("layers", f"the network cannot be read again: {why}", None)
            return ()

    def _exports(self, info: CompactInfo | None) -> tuple[ExportFacts, ...]:
        try:
            records = manifest.read(self.run.export).files
        except CompressError as error:
            self._miss("export", error.message, self._command("export"))
            return ()
        if not records:
            self._miss("export", "no file for a runtime has been made", self._command("export"))
        weights = None if info is None else info.weights_sha256
        return tuple(
            ExportFacts(
                record=entry,
                fault=next(
                    (f for part in entry.parts if (f := manifest.describe_mismatch(self.run.export, part))),
                    None,
                ),
                is_current=entry.lineage.weights_sha256 == weights,
            )
            for entry in records
        )

    def _bench(self, told: Sequence[Told], info: CompactInfo | None) -> BenchFacts | None:
        found = told[0].result if told else None
        if found is None:
            self._miss("bench", "nothing has been measured", self._command("bench"))
            return None
        return BenchFacts(
            created=found.created,
            command=found.command,
            protocol=found.protocol,
            threads=found.threads,
            machine=found.machine,
            before=found.before,
            after=found.after,
            versions=found.versions,
            timed={entry.backend: entry.timed for entry in found.comparisons},
            sessions={entry.backend: entry.session for entry in found.comparisons},
            others_load=max(batch.others_load for entry in found.comparisons for batch in entry.batches),
            is_current=info is not None and _time(info.created) <= _time(found.created),
        )

    def _staircases(self, info: CompactInfo | None) -> tuple[LatencyTable, ...]:
        found = list[LatencyTable]()
        command = f"{self._command('bench')} --staircase all"
        for path in sorted(self.run.bench.glob("latency-*.json")):
            try:
                found.append(LatencyTable.read(path))
            except CompressError as error:
                self._miss("staircase", error.message, command)
        if not found and info is not None:
            self._miss("staircase", "latency against width has not been measured", command)
        return tuple(sorted(found, key=lambda table: table.created, reverse=True))


def _parity(run: RunFolder, exports: Sequence[ExportFacts]) -> tuple[ParityStep, ...]:
    """The gates of the compact network, then those of the exports."""
    gates = read_json(run.compact / "verify.json", what="record of the exactness gates")
    steps = [
        ParityStep(
            compared=words,
            images=gates[name]["samples"],
            max_rel=gates[name]["max_rel"],
            limit=gates[name]["tolerance"],
            passed=gates[name]["passed"],
        )
        for name, words in GATES.items()
        if gates.get(name)
    ]
    for found in exports:
        same = found.record.parity
        steps.append(
            ParityStep(
                compared=f"{found.record.file} = compact",
                images=same.images,
                max_rel=same.max_rel,
                limit=same.limit_rel,
                agreement=same.agreement,
                passed=same.passed,
            )
        )
    return tuple(steps)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
