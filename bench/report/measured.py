"""Find the measurements of an artifact in benchmark results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from compress.bench.report.facts import Measured
from compress.bench.results.record import ArtifactRecord, BatchRecord, BenchResult, ComparisonRecord


@dataclass(frozen=True)
class NamedResult:
    """A benchmark result that includes a run, and the name of the run in it."""

    name: str
    result: BenchResult


Matcher = Callable[[ArtifactRecord, NamedResult], bool]
"""Returns whether a side of a comparison is a certain artifact."""


def find_measurements(results: Iterable[NamedResult], *matchers: Matcher) -> tuple[Measured, ...]:
    """Return the measurements of one artifact: one per back end and batch size, in measured order.

    Args:
        results: results in order of preference.
        matchers: conditions that a side must meet, in order of preference. For each, measurements as a
            candidate, which have a speed-up, are preferred to those as a baseline.
    """
    by_setting: dict[tuple[str, int], Measured] = {}
    for named in results:
        for matches in matchers:
            for as_candidate in (True, False):
                for comparison in named.result.comparisons:
                    if matches(comparison.candidate if as_candidate else comparison.baseline, named):
                        for entry in comparison.batches:
                            measured = _measurement(named, comparison, entry, as_candidate)
                            by_setting.setdefault((measured.backend, measured.batch), measured)
    return tuple(by_setting.values())


def _measurement(
    named: NamedResult, comparison: ComparisonRecord, entry: BatchRecord, as_candidate: bool
) -> Measured:
    baseline = Measured(
        backend=comparison.backend,
        batch=entry.batch,
        threads=named.result.threads,
        times=entry.baseline,
        others_load=entry.others_load,
    )
    if not as_candidate:
        return baseline
    return baseline.model_copy(
        update={
            "times": entry.candidate,
            "against": comparison.baseline.label.removeprefix(f"{named.name} "),
            "speedup": entry.speedup,
            "verdict": entry.verdict,
            "floor": entry.floor,
            "mac_reduction": entry.mac_reduction,
            "efficiency": entry.efficiency,
        }
    )


def name_in_result(result: BenchResult, folder: str) -> str:
    """Return the name of a run in the result in its folder, which may have been renamed since."""
    if folder in result.artefacts:
        return folder
    sides = (side for entry in result.comparisons for side in (entry.baseline, entry.candidate))
    runs = (side for side in sides if side.artefact != side.file and side.label.endswith("dense"))
    return next((side.artefact for side in runs), folder)


def is_network(network: str) -> Matcher:
    """Match the ``dense`` or ``compact`` network of the run."""

    def matches(side: ArtifactRecord, named: NamedResult) -> bool:
        return side.artefact == named.name and side.label.rsplit(" ", 1)[-1] == network

    return matches


def is_file_by_name(sha256: str) -> Matcher:
    """Match an exported file with this hash that was given to the benchmark as a file."""
    return lambda side, _: side.sha256 == sha256 and side.artefact == side.file


def is_same_content(sha256: str) -> Matcher:
    """Match a side that was measured with a file with this hash."""
    return lambda side, _: side.sha256 == sha256
