"""A result for people: a table of the networks, two of the times for each back end, and how to read them."""

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
    """What a batch size bought on one back end, in one row.

    Attributes:
        backend: its name.
        baseline, candidate: what was compared.
        batch: images of an inference.
        baseline_ms, candidate_ms: median latency.
        speedup, low, high: with the ends of its 95% interval.
        mac_reduction, efficiency: speed-up over MAC reduction; None where the MACs are not known.
        verdict: on the candidate.
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
            backend=found.backend,
            baseline=found.baseline.label,
            candidate=found.candidate.label,
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
        for found in result.comparisons
        for entry in found.batches
    ]


def summary_row(result: BenchResult, batch: int | None = None) -> SummaryRow:
    """Return the row of one batch size of the first comparison; of its first batch where none is given.

    Raises:
        KeyError: that batch size was not measured.
    """
    first = result.comparisons[0].batches
    rows = summary_rows(result)[: len(first)]
    found = next((row for row in rows if batch in (None, row.batch)), None)
    if found is None:
        raise KeyError(f"batch {batch} was not measured")
    return found


def render_bench_table(result: BenchResult) -> Group:
    """Return everything a reader needs to judge the result, for a Rich console: a table for each back end."""
    parts: list[RenderableType] = [_networks(result)]
    for backend in dict.fromkeys(found.backend for found in result.comparisons):
        own = [found for found in result.comparisons if found.backend == backend]
        parts += [_latencies(backend, own, result.threads), _speedups(backend, own)]
    return Group(*parts, *_warnings(result), Text(_footnote(result), style="dim"))


def _networks(result: BenchResult) -> Table:
    made = Table(title=_title(result), title_justify="left")
    made.add_column("network")
    for name in ("MMACs (papers' FLOPs)", "parameters", "file", "file MB", "top-1"):
        made.add_column(name, justify="right")
    seen = dict.fromkeys(
        tuple(_network_row(artifact))
        for found in result.comparisons
        for artifact in (found.baseline, found.candidate)
    )
    for row in seen:
        made.add_row(*row)
    return made


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


def _latencies(backend: str, own: Sequence[ComparisonRecord], threads: int) -> Table:
    made = Table(title=f"latency of a batch, ms ({backend}, {threads} threads)", title_justify="left")
    made.add_column("batch", justify="right")
    made.add_column("network")
    device = any(entry.baseline.device for found in own for entry in found.batches)
    names = ("p50", "p90", "p99", "MAD", "first", "samples", "images/s", "peak MB")
    sources = tuple(dict.fromkeys(used.source for side in _sides(own) for used in side.energy))
    joules = (f"mJ ({source})" for source in sources)
    for name in (*names, *(("device p50", "device p90") if device else ()), *joules):
        made.add_column(name, justify="right")
    for found in own:
        for entry in found.batches:
            for side in (entry.baseline, entry.candidate):
                made.add_row(str(entry.batch), *_latency_row(side), *_energy(side, sources))
    return made


def _latency_row(side: SideRecord) -> list[str]:
    times = [
        _milliseconds(value) for value in (side.p50_ms, side.p90_ms, side.p99_ms, side.mad_ms, side.first_ms)
    ]
    device = [] if side.device is None else [side.device.p50_ms, side.device.p90_ms]
    return [
        side.label if side.settled else f"{side.label} (unsettled)",
        *times,
        f"{side.count:,}",
        f"{side.images_per_s:,.0f}",
        f"{side.peak_bytes / 1e6:,.0f}",
        *(_milliseconds(value) for value in device),
    ]


def _sides(own: Sequence[ComparisonRecord]) -> list[SideRecord]:
    return [side for found in own for entry in found.batches for side in (entry.baseline, entry.candidate)]


def _energy(side: SideRecord, sources: Sequence[str]) -> list[str]:
    """Energy of an inference by each counter, in thousandths of a joule."""
    used = {entry.source: entry.joules for entry in side.energy}
    return [_milliseconds(used[source] * 1e3 if source in used else None) for source in sources]


def _speedups(backend: str, own: Sequence[ComparisonRecord]) -> Table:
    alone = own[0] if len(own) == 1 else None
    what = f", {alone.baseline.label} over {alone.candidate.label}" if alone else ""
    made = Table(title=f"speed-up{what} ({backend})", title_justify="left")
    if alone is None:
        made.add_column("candidate")
        made.add_column("baseline")
    made.add_column("batch", justify="right")
    device = any(entry.device_speedup for found in own for entry in found.batches)
    names = ("speed-up", "95% interval", "noise floor", "pairs", "sessions", "MAC reduction", "efficiency")
    for name in (*names, *(("on the device",) if device else ())):
        made.add_column(name, justify="right")
    made.add_column("verdict")
    for found in own:
        who = [] if alone else [found.candidate.label, found.baseline.label]
        for entry in found.batches:
            made.add_row(*who, *_speedup_row(entry))
    return made


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
    """What a reader must know before trusting the numbers."""
    busiest = max(entry.others_load for found in result.comparisons for entry in found.batches)
    throttled = [_throttled(found, entry) for found in result.comparisons for entry in found.batches]
    warnings = [Text(skipped_text(entry), style="yellow") for entry in result.skipped]
    warnings += [Text(text, style="yellow") for text in throttled if text]
    if busiest <= BUSY:
        return warnings
    return [
        *warnings,
        Text(
            f"Other processes took up to {busiest:.0%} of the processors meanwhile: times are too long, and "
            "the intervals wider than on a quiet machine.",
            style="yellow",
        ),
    ]


def _gpu_states(result: BenchResult) -> str:
    """The GPU's state over all comparisons, in a sentence; empty without one that tells."""
    records = [entry.gpu for found in result.comparisons for entry in found.batches if entry.gpu is not None]
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


def _throttled(found: ComparisonRecord, entry: BatchRecord) -> str:
    """Which blocks the GPU was held back in, and by what; empty where in none."""
    if entry.gpu is None or not entry.gpu.affected:
        return ""
    blocks = [entry.gpu.blocks[i] for i in entry.gpu.affected]
    why = ", ".join(dict.fromkeys(reason for block in blocks for reason in block.throttled))
    which = ", ".join(str(i + 1) for i in entry.gpu.affected)
    clocks = sorted({block.sm_mhz for block in blocks})
    return (
        f"{found.backend}, batch {entry.batch}, {found.candidate.label}: the GPU was held back ({why}) after "
        f"{len(blocks)} of {len(entry.gpu.blocks)} blocks ({which}), at {clocks[0]} to {clocks[-1]} MHz and "
        f"up to {max(block.celsius for block in blocks)} degrees Celsius."
    )


def _footnote(result: BenchResult) -> str:
    load = "-" if result.before.load_average is None else f"{result.before.load_average[0]:.2f}"
    timed = dict.fromkeys((found.backend, found.timed) for found in result.comparisons)
    several = len(timed) > 1
    texts = (f"{backend}: {text}" if several else text for backend, text in timed)
    weights = (found.baseline.weights for found in result.comparisons)
    energy = dict.fromkeys(
        f"{source} {said}" for found in result.comparisons for source, said in found.energy.items()
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
