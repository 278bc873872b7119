"""Which of the measurements at hand belong to which artefact."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from compress.bench.report.facts import Measured
from compress.bench.results.record import ArtifactRecord, BatchRecord, BenchResult, ComparisonRecord


@dataclass(frozen=True)
class Told:
    """A benchmark that speaks of a run, and the name it calls the run by."""

    name: str
    result: BenchResult


Wanted = Callable[[ArtifactRecord, Told], bool]


def measured(results: Iterable[Told], *wanted: Wanted) -> tuple[Measured, ...]:
    """Return the measurements of one artefact: one for each back end and batch size, in the order measured.

    Args:
        results: of which the first that has a measurement gives it.
        wanted: tells whether a side is the artefact. Of several, an earlier one goes before a later one; so
            does, for each, a candidate (which has a speed-up) before a baseline.
    """
    found: dict[tuple[str, int], Measured] = {}
    for told in results:
        for is_it in wanted:
            for as_candidate in (True, False):
                for comparison in told.result.comparisons:
                    if is_it(comparison.candidate if as_candidate else comparison.baseline, told):
                        for entry in comparison.batches:
                            one = _one(told, comparison, entry, as_candidate)
                            found.setdefault((one.backend, one.batch), one)
    return tuple(found.values())


def _one(told: Told, comparison: ComparisonRecord, entry: BatchRecord, as_candidate: bool) -> Measured:
    plain = Measured(
        backend=comparison.backend,
        batch=entry.batch,
        threads=told.result.threads,
        times=entry.baseline,
        others_load=entry.others_load,
    )
    if not as_candidate:
        return plain
    return plain.model_copy(
        update={
            "times": entry.candidate,
            "against": comparison.baseline.label.removeprefix(f"{told.name} "),
            "speedup": entry.speedup,
            "verdict": entry.verdict,
            "floor": entry.floor,
            "mac_reduction": entry.mac_reduction,
            "efficiency": entry.efficiency,
        }
    )


def own_name(result: BenchResult, folder: str) -> str:
    """Return what a benchmark in a run's folder calls the run, which may have been moved since.

    It is kept in the first run that was named.
    """
    if folder in result.artefacts:
        return folder
    sides = (side for found in result.comparisons for side in (found.baseline, found.candidate))
    runs = (side for side in sides if side.artefact != side.file and side.label.endswith("dense"))
    return next((side.artefact for side in runs), folder)


def of_network(network: str) -> Wanted:
    """Whether a side is the ``dense`` or ``compact`` network of the run."""

    def is_it(side: ArtifactRecord, told: Told) -> bool:
        return side.artefact == told.name and side.label.rsplit(" ", 1)[-1] == network

    return is_it


def of_named_file(sha256: str) -> Wanted:
    """Whether a side is the exported file of that hash, named to the benchmark as itself."""
    return lambda side, _: side.sha256 == sha256 and side.artefact == side.file


def of_content(sha256: str) -> Wanted:
    """Whether a side was measured with a file of that hash."""
    return lambda side, _: side.sha256 == sha256
