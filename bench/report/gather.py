"""Read the contents of run folders; missing parts are listed with the command that creates them."""

from __future__ import annotations

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
from compress.bench.report.layers import is_complete, layer_rows
from compress.bench.report.lineage import lineage_rows
from compress.bench.report.measured import NamedResult, name_in_result
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

CHECKS = {
    "sliced_vs_masked_dense": "sliced = masked dense",
    "compact_vs_trained": "compact = trained",
}
"""The comparisons in verify.json."""


def gather_facts(runs: Sequence[str | Path]) -> ReportFacts:
    """Read the given run folders.

    Raises:
        CompressError: no run is given, one is given twice, or a folder is not a run (or of another version).
    """
    folders = [Path(run) for run in runs]
    resolved = [folder.resolve() for folder in folders]
    duplicate = next((str(f) for i, f in enumerate(folders) if resolved[i] in resolved[:i]), None)
    if not folders or duplicate is not None:
        message = "no run is given" if duplicate is None else f"the run {duplicate!r} is given twice"
        raise CompressError(message, hint="give run folders, each once", code="bad-option")
    readers = [_RunReader(folder, RunFolder.open(folder.resolve())) for folder in folders]
    results = [reader.bench_result() for reader in readers]
    return ReportFacts(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        runs=tuple(
            reader.facts(own, [other for other in results if other is not None and other is not own])
            for reader, own in zip(readers, results, strict=True)
        ),
    )


@dataclass
class _RunReader:
    """Reads one run folder and collects its missing parts."""

    folder: Path
    run: RunFolder
    missing: list[Missing] = field(default_factory=list)

    def facts(self, own: BenchResult | None, others: Sequence[BenchResult]) -> RunFacts:
        """Return the contents of the folder, with measurements of the run in `others`."""
        name = self.run.path.name
        results = [NamedResult(name, other) for other in others if other.artefacts.count(name) == 1]
        if own is not None:
            results.insert(0, NamedResult(name_in_result(own, name), own))
        info = self._info()
        metrics = self._metrics()
        exports = self._exports(info)
        layers = self._layers(info)
        scenarios = self._scenarios()
        return RunFacts(
            name=name,
            folder=str(self.folder),
            record=self.run.record,
            extra={} if info is None else info.extra,
            lineage=lineage_rows(self.run, info, exports, results),
            metrics=metrics,
            layers=layers,
            layers_complete=info is not None and is_complete(layers, info),
            parity=_parity(self.run, exports) if info is not None else (),
            exports=exports,
            signed=(self.run.export / manifest.SIGNATURE).is_file(),
            bench=self._bench(results, info),
            explained=self._explained(),
            staircases=self._staircases(info),
            scenarios=scenarios,
            scenarios_current=scenarios is None
            or (info is not None and _time(info.created) <= _time(scenarios.created)),
            missing=tuple(self.missing),
        )

    def bench_result(self) -> BenchResult | None:
        """Return the result in the run folder, or None."""
        path = self.run.bench / record.FILENAME
        if not path.is_file():
            return None
        try:
            return record.read(path)
        except CompressError as error:
            self._miss("bench", error.message, self._command("bench"))
            return None

    def _explained(self) -> tuple[Explanation, ...]:
        """Return all explanations; unreadable files count as missing."""
        readable = []
        for path in sorted(self.run.bench.glob(explanations.filename("*"))):
            try:
                readable.append(explanations.read(path))
            except CompressError as error:
                self._miss("explain", error.message, self._command("bench explain"))
        return tuple(readable)

    def _scenarios(self) -> ScenarioResult | None:
        path = self.run.bench / scenario_record.FILENAME
        if not path.is_file():
            return None
        try:
            return scenario_record.read(path)
        except CompressError as error:
            names = ",".join(Scenario)
            command = f"{self._command('bench scenario')} --scenario {names}"
            self._miss("scenarios", error.message, command)
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
        self._miss("compact", "the run has no compact model yet: training is not finished", again or None)
        return None

    def _metrics(self) -> tuple[dict[str, Any], ...]:
        rows = read_metrics(self.run.metrics_path)
        if not rows:
            cut = self.run.record.command[1:2] == ("slice",)
            why = "the network was cut without training" if cut else "no epoch is finished"
            self._miss("training", why, None)
        return tuple(rows)

    def _layers(self, info: CompactInfo | None) -> tuple[LayerRow, ...]:
        if info is None:
            return ()
        try:
            return layer_rows(self.run, info)
        except (CompressError, KeyError) as error:
            why = error.message if isinstance(error, CompressError) else f"the weights lack {error}"
            self._miss("layers", f"the network cannot be loaded: {why}", None)
            return ()

    def _exports(self, info: CompactInfo | None) -> tuple[ExportFacts, ...]:
        try:
            records = manifest.read(self.run.export).files
        except CompressError as error:
            self._miss("export", error.message, self._command("export"))
            return ()
        if not records:
            self._miss("export", "no file has been exported", self._command("export"))
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

    def _bench(self, results: Sequence[NamedResult], info: CompactInfo | None) -> BenchFacts | None:
        if not results:
            self._miss("bench", "no benchmark has been run", self._command("bench"))
            return None
        result = results[0].result
        return BenchFacts(
            created=result.created,
            command=result.command,
            protocol=result.protocol,
            threads=result.threads,
            machine=result.machine,
            before=result.before,
            after=result.after,
            versions=result.versions,
            timed={entry.backend: entry.timed for entry in result.comparisons},
            sessions={entry.backend: entry.session for entry in result.comparisons},
            others_load=max(batch.others_load for entry in result.comparisons for batch in entry.batches),
            is_current=info is not None and _time(info.created) <= _time(result.created),
        )

    def _staircases(self, info: CompactInfo | None) -> tuple[LatencyTable, ...]:
        tables = list[LatencyTable]()
        command = self._command("bench staircase")
        for path in sorted(self.run.bench.glob("latency-*.json")):
            try:
                tables.append(LatencyTable.read(path))
            except CompressError as error:
                self._miss("staircase", error.message, command)
        if not tables and info is not None:
            self._miss("staircase", "latency over width has not been measured", command)
        return tuple(sorted(tables, key=lambda table: table.created, reverse=True))


def _parity(run: RunFolder, exports: Sequence[ExportFacts]) -> tuple[ParityStep, ...]:
    """Return the exactness checks of the compact network, then the parity checks of the exports."""
    checks = read_json(run.compact / "verify.json", what="record of the exactness checks")
    steps = [
        ParityStep(
            compared=compared,
            images=checks[name]["samples"],
            max_rel=checks[name]["max_rel"],
            limit=checks[name]["tolerance"],
            passed=checks[name]["passed"],
        )
        for name, compared in CHECKS.items()
        if checks.get(name)
    ]
    for export in exports:
        parity = export.record.parity
        steps.append(
            ParityStep(
                compared=f"{export.record.file} = compact",
                images=parity.images,
                max_rel=parity.max_rel,
                limit=parity.limit_rel,
                agreement=parity.agreement,
                passed=parity.passed,
            )
        )
    return tuple(steps)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
