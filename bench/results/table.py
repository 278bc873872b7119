"""Render a benchmark result: a table of the networks, two tables for each back end, and a footnote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from compress.bench.protocol.stats import Verdict
from compress.bench.results.record import (
    ArtifactRecord,
    BatchRecord,
    BenchResult,
    ComparisonRecord,
    SideRecord,
    skipped_text,
)
from compress.bench.results.value_range import BUSY

_COLOURS = {
    Verdict.FASTER: "green",
    Verdict.SAME: "cyan",
    Verdict.SLOWER: "red",
    Verdict.UNCLEAR: "yellow",
}


@dataclass(frozen=True)
class SummaryRow:
    """Speed-up at one batch size on one back end.

    Attributes:
        backend: name of the back end.
        baseline, candidate: labels of the compared networks.
        batch: images of an inference.
        baseline_ms, candidate_ms: median latency.
        speedup, low, high: speed-up and the ends of its 95% interval.
        mac_reduction: MACs of the baseline over those of the candidate; None if unknown.
        efficiency: speed-up over MAC reduction; None if unknown.
        verdict: FASTER, SAME, SLOWER or UNCLEAR.
    """

    backend: str
    baseline: str
    candidate: str
    batch: int
    baseline_ms: float
    candidate_ms: float
    speedup: float
    low: float
    high: float
    mac_reduction: float | None
    efficiency: float | None
    verdict: Verdict


def summary_rows(result: BenchResult) -> list[SummaryRow]:
    """Return a row for each comparison and batch size, in the order measured."""
    return [
        SummaryRow(
            backend=comparison.backend,
            baseline=comparison.baseline.label,
            candidate=comparison.candidate.label,
            batch=entry.batch,
            baseline_ms=entry.baseline.p50_ms,
            candidate_ms=entry.candidate.p50_ms,
            speedup=entry.speedup.ratio,
            low=entry.speedup.low,
            high=entry.speedup.high,
            mac_reduction=entry.mac_reduction,
            efficiency=entry.efficiency,
            verdict=entry.verdict,
        )
        for comparison in result.comparisons
        for entry in comparison.batches
    ]


def summary_row(result: BenchResult, batch: int | None = None) -> SummaryRow:
    """Return the row of one batch size of the first comparison; of its first batch size if `batch` is None.

    Raises:
        KeyError: that batch size was not measured.
    """
    first = result.comparisons[0].batches
    rows = summary_rows(result)[: len(first)]
    row = next((row for row in rows if batch in (None, row.batch)), None)
    if row is None:
        raise KeyError(f"batch {batch} was not measured")
    return row


def render_bench_table(result: BenchResult) -> Group:
    """Return the tables of a result for a Rich console, with warnings and a footnote."""
    parts: list[RenderableType] = [_network_table(result)]
    for backend in dict.fromkeys(comparison.backend for comparison in result.comparisons):
        own = [comparison for comparison in result.comparisons if comparison.backend == backend]
        parts += [_latency_table(backend, own, result.threads), _speedup_table(backend, own)]
    return Group(*parts, *_warnings(result), Text(_footnote(result), style="dim"))


def _network_table(result: BenchResult) -> Table:
    table = Table(title=_title(result), title_justify="left")
    table.add_column("network")
    for name in ("MMACs (papers' FLOPs)", "parameters", "file", "file MB", "top-1"):
        table.add_column(name, justify="right")
    seen = dict.fromkeys(
        tuple(_network_row(artifact))
        for comparison in result.comparisons
        for artifact in (comparison.baseline, comparison.candidate)
    )
    for row in seen:
        table.add_row(*row)
    return table


def _title(result: BenchResult) -> str:
    first = result.comparisons[0].candidate
    if len(result.artefacts) == 1:
        return f"{first.artefact}: {first.model}, {first.method}"
    return ", ".join(result.artefacts)


def _network_row(artifact: ArtifactRecord) -> list[str]:
    return [
        artifact.label,
        "-" if artifact.macs is None else f"{artifact.macs / 1e6:,.2f}",
        "-" if artifact.params is None else f"{artifact.params:,}",
        artifact.file or "modules",
        "-" if artifact.bytes is None else f"{artifact.bytes / 1e6:,.2f}",
        "-" if artifact.top1 is None else f"{artifact.top1:.2%}",
    ]


def _latency_table(backend: str, comparisons: Sequence[ComparisonRecord], threads: int) -> Table:
    table = Table(title=f"latency of a batch, ms ({backend}, {threads} threads)", title_justify="left")
    table.add_column("batch", justify="right")
    table.add_column("network")
    device = any(entry.baseline.device for comparison in comparisons for entry in comparison.batches)
    names = ("p50", "p90", "p99", "MAD", "first", "samples", "images/s", "peak MB")
    sources = tuple(dict.fromkeys(used.source for side in _sides(comparisons) for used in side.energy))
    joules = (f"mJ ({source})" for source in sources)
    for name in (*names, *(("device p50", "device p90") if device else ()), *joules):
        table.add_column(name, justify="right")
    for comparison in comparisons:
        for entry in comparison.batches:
            for side in (entry.baseline, entry.candidate):
                table.add_row(str(entry.batch), *_latency_row(side), *_energy(side, sources))
    return table


def _latency_row(side: SideRecord) -> list[str]:
    times = [
        _milliseconds(value) for value in (side.p50_ms, side.p90_ms, side.p99_ms, side.mad_ms, side.first_ms)
    ]
    device = [] if side.device is None else [side.device.p50_ms, side.device.p90_ms]
    return [
        side.label if side.settled else f"{side.label} (unstable)",
        *times,
        f"{side.count:,}",
        f"{side.images_per_s:,.0f}",
        f"{side.peak_bytes / 1e6:,.0f}",
        *(_milliseconds(value) for value in device),
    ]


def _sides(comparisons: Sequence[ComparisonRecord]) -> list[SideRecord]:
    return [
        side
        for comparison in comparisons
        for entry in comparison.batches
        for side in (entry.baseline, entry.candidate)
    ]


def _energy(side: SideRecord, sources: Sequence[str]) -> list[str]:
    """Return the energy of an inference by each counter, in millijoules."""
    used = {entry.source: entry.joules for entry in side.energy}
    return [_milliseconds(used[source] * 1e3 if source in used else None) for source in sources]


def _speedup_table(backend: str, comparisons: Sequence[ComparisonRecord]) -> Table:
    single = comparisons[0] if len(comparisons) == 1 else None
    what = f", {single.baseline.label} over {single.candidate.label}" if single else ""
    table = Table(title=f"speed-up{what} ({backend})", title_justify="left")
    if single is None:
        table.add_column("candidate")
        table.add_column("baseline")
    table.add_column("batch", justify="right")
    device = any(entry.device_speedup for comparison in comparisons for entry in comparison.batches)
    names = ("speed-up", "95% interval", "noise floor", "pairs", "sessions", "MAC reduction", "efficiency")
    for name in (*names, *(("on the device",) if device else ())):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for comparison in comparisons:
        labels = [] if single else [comparison.candidate.label, comparison.baseline.label]
        for entry in comparison.batches:
            table.add_row(*labels, *_speedup_row(entry))
    return table


def _speedup_row(entry: BatchRecord) -> list[str | Text]:
    device = entry.device_speedup
    return [
        str(entry.batch),
        f"{entry.speedup.ratio:.2f}x",
        f"{entry.speedup.low:.2f} to {entry.speedup.high:.2f}",
        f"{entry.floor:.1%}",
        str(entry.speedup.pairs),
        str(entry.speedup.sessions),
        "-" if entry.mac_reduction is None else f"{entry.mac_reduction:.2f}x",
        "-" if entry.efficiency is None else f"{entry.efficiency:.2f}",
        *([] if device is None else [f"{device.ratio:.2f}x ({device.low:.2f} to {device.high:.2f})"]),
        Text(entry.verdict.value, style=_COLOURS[entry.verdict]),
    ]


def _warnings(result: BenchResult) -> list[Text]:
    """Return warnings about skipped comparisons, throttling and load by other processes."""
    busiest = max(entry.others_load for comparison in result.comparisons for entry in comparison.batches)
    throttled = [
        _throttled(comparison, entry) for comparison in result.comparisons for entry in comparison.batches
    ]
    warnings = [Text(skipped_text(entry), style="yellow") for entry in result.skipped]
    warnings += [Text(text, style="yellow") for text in throttled if text]
    if busiest <= BUSY:
        return warnings
    return [
        *warnings,
        Text(
            f"Other processes used up to {busiest:.0%} of the processors during the measurement: times are "
            "too long, and the intervals wider than on a quiet machine.",
            style="yellow",
        ),
    ]


def _gpu_states(result: BenchResult) -> str:
    """Return a sentence about the GPU's state over all comparisons; empty if it was not recorded."""
    records = [
        entry.gpu
        for comparison in result.comparisons
        for entry in comparison.batches
        if entry.gpu is not None
    ]
    blocks = [block for record in records for block in record.blocks]
    if not blocks:
        return ""
    clocks = sorted(block.sm_mhz for block in blocks)
    return (
        f"GPU after each block: {clocks[0]} to {clocks[-1]} MHz, up to "
        f"{max(block.celsius for block in blocks)} degrees Celsius, up to "
        f"{max(block.watts for block in blocks):.0f} W, up to "
        f"{max(block.used_bytes for block in blocks) / 1e6:,.0f} MB of its memory used by all processes. "
    )


def _throttled(comparison: ComparisonRecord, entry: BatchRecord) -> str:
    """Return in which blocks the GPU was throttled, and why; empty if in none."""
    if entry.gpu is None or not entry.gpu.affected:
        return ""
    blocks = [entry.gpu.blocks[i] for i in entry.gpu.affected]
    why = ", ".join(dict.fromkeys(reason for block in blocks for reason in block.throttled))
    which = ", ".join(str(i + 1) for i in entry.gpu.affected)
    clocks = sorted({block.sm_mhz for block in blocks})
    return (
        f"{comparison.backend}, batch {entry.batch}, {comparison.candidate.label}: "
        f"the GPU was throttled ({why}) after {len(blocks)} of {len(entry.gpu.blocks)} blocks ({which}), "
        f"at {clocks[0]} to {clocks[-1]} MHz and up to "
        f"{max(block.celsius for block in blocks)} degrees Celsius."
    )


def _footnote(result: BenchResult) -> str:
    load = "-" if result.before.load_average is None else f"{result.before.load_average[0]:.2f}"
    timed = dict.fromkeys((comparison.backend, comparison.timed) for comparison in result.comparisons)
    several = len(timed) > 1
    texts = (f"{backend}: {text}" if several else text for backend, text in timed)
    weights = (comparison.baseline.weights for comparison in result.comparisons)
    energy = dict.fromkeys(
        f"{source} {text}" for comparison in result.comparisons for source, text in comparison.energy.items()
    )
    dense = next((text for text in weights if text.startswith("fresh")), None)
    return (
        f"Timed: {'. '.join(texts)}. MACs are multiply-accumulates, which papers call FLOPs. Efficiency is "
        "speed-up over MAC reduction. Peak MB is the host's memory. "
        + (f"Energy: {'; '.join(energy)}. " if energy else "")
        + _gpu_states(result)
        + (f"The dense network's weights are {dense}. " if dense else "")
        + f"{result.machine.cpu}, {result.machine.cores} cores, load {load}, "
        f"governor {result.before.governor or 'unknown'}; "
        f"{', '.join(f'{name} {version}' for name, version in result.versions.items())}; {result.created}."
    )


def _milliseconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"
