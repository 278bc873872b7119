"""Which of the measurements at hand belong to which artefact."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bench.record import ArtefactRecord, BatchRecord, BenchResult, ComparisonRecord
from bench.report.facts import Measured

Wanted = Callable[[ArtefactRecord], bool]


def measured(run: str, results: Iterable[BenchResult], *wanted: Wanted) -> tuple[Measured, ...]:
    """Return the measurements of one artefact: one for each back end and batch size, in the order measured.

    Args:
        run: name of the run it belongs to, which is left out where the baseline is called by it.
        results: of which the first that has a measurement gives it.
        wanted: tells whether a side is the artefact. Of several, an earlier one goes before a later one; so
            does, for each, a candidate (which has a speed-up) before a baseline.
    """
    found: dict[tuple[str, int], Measured] = {}
    for result in results:
        for is_it in wanted:
            for as_candidate in (True, False):
                for comparison in result.comparisons:
                    if is_it(comparison.candidate if as_candidate else comparison.baseline):
                        for entry in comparison.batches:
                            one = _one(run, result, comparison, entry, as_candidate)
                            found.setdefault((one.backend, one.batch), one)
    return tuple(found.values())


def _one(
    run: str, result: BenchResult, comparison: ComparisonRecord, entry: BatchRecord, as_candidate: bool
) -> Measured:
    plain = Measured(
        backend=comparison.backend,
        batch=entry.batch,
        threads=result.threads,
        times=entry.baseline,
        others_load=entry.others_load,
    )
    if not as_candidate:
        return plain
    return plain.model_copy(
        update={
            "times": entry.candidate,
            "against": comparison.baseline.label.removeprefix(f"{run} "),
            "speedup": entry.speedup,
            "verdict": entry.verdict,
            "floor": entry.floor,
            "mac_reduction": entry.mac_reduction,
            "efficiency": entry.efficiency,
        }
    )


def of_network(run: str, network: str) -> Wanted:
    """Whether a side is the ``dense`` or ``compact`` network of the run of that name."""

    def is_it(side: ArtefactRecord) -> bool:
        return side.artefact == run and side.label.rsplit(" ", 1)[-1] == network

    return is_it


def of_named_file(sha256: str) -> Wanted:
    """Whether a side is the exported file of that hash, named to the benchmark as itself."""
    return lambda side: side.sha256 == sha256 and side.artefact == side.file


def of_content(sha256: str) -> Wanted:
    """Whether a side was measured with a file of that hash."""
    return lambda side: side.sha256 == sha256
