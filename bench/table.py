"""A result for people: one table of the networks, one of the times, and how to read them."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Group
from rich.table import Table
from rich.text import Text

from bench.record import ArtefactRecord, BatchRecord, BenchResult, SideRecord
from bench.stats import Verdict

BUSY = 0.1
"""Share of the processors that others may take before the table warns."""

_COLOURS = {
    Verdict.FASTER: "green",
    Verdict.SAME: "cyan",
    Verdict.SLOWER: "red",
    Verdict.UNCLEAR: "yellow",
}


@dataclass(frozen=True)
class SummaryRow:
    """What a batch size bought, in one row.

    Attributes:
        batch: images of an inference.
        dense_ms, compact_ms: median latency.
        speedup, low, high: with the ends of its 95% interval.
        efficiency: speed-up over MAC reduction.
        verdict: on the compact network.
    """

    batch: int
    dense_ms: float
    compact_ms: float
    speedup: float
    low: float
    high: float
    mac_reduction: float
    efficiency: float
    verdict: Verdict


def summary_row(result: BenchResult, batch: int | None = None) -> SummaryRow:
    """Return the row of one batch size; of the first one measured where none is given.

    Raises:
        KeyError: that batch size was not measured.
    """
    found = next((entry for entry in result.batches if batch in (None, entry.batch)), None)
    if found is None:
        raise KeyError(f"batch {batch} was not measured")
    return SummaryRow(
        found.batch,
        found.dense.p50_ms,
        found.compact.p50_ms,
        found.speedup.ratio,
        found.speedup.low,
        found.speedup.high,
        found.mac_reduction,
        found.efficiency,
        found.verdict,
    )


def table(result: BenchResult) -> Group:
    """Return everything a reader needs to judge the result, for a Rich console."""
    parts = [_networks(result), _latencies(result), _speedups(result)]
    return Group(*parts, *_warnings(result), Text(_footnote(result), style="dim"))


def _networks(result: BenchResult) -> Table:
    made = Table(title=f"{result.run}: {result.model}, {result.method}", title_justify="left")
    made.add_column("network")
    for name in ("MMACs (papers' FLOPs)", "parameters", "file MB", "top-1"):
        made.add_column(name, justify="right")
    for artefact in (result.dense, result.compact):
        made.add_row(*_network_row(artefact))
    return made


def _network_row(artefact: ArtefactRecord) -> list[str]:
    top1 = "-" if artefact.top1 is None else f"{artefact.top1:.2%}"
    return [
        artefact.label,
        f"{artefact.macs / 1e6:,.2f}",
        f"{artefact.params:,}",
        f"{artefact.bytes / 1e6:,.2f}",
        top1,
    ]


def _latencies(result: BenchResult) -> Table:
    made = Table(
        title=f"latency of a batch, ms ({result.backend}, {result.threads} threads)", title_justify="left"
    )
    made.add_column("batch", justify="right")
    made.add_column("network")
    for name in ("p50", "p90", "p99", "MAD", "first", "samples", "images/s", "peak MB"):
        made.add_column(name, justify="right")
    for entry in result.batches:
        for side in (entry.dense, entry.compact):
            made.add_row(str(entry.batch), *_latency_row(side))
    return made


def _latency_row(side: SideRecord) -> list[str]:
    times = [
        _milliseconds(value) for value in (side.p50_ms, side.p90_ms, side.p99_ms, side.mad_ms, side.first_ms)
    ]
    return [
        side.label if side.settled else f"{side.label} (unsettled)",
        *times,
        f"{side.count:,}",
        f"{side.images_per_s:,.0f}",
        f"{side.peak_bytes / 1e6:,.0f}",
    ]


def _speedups(result: BenchResult) -> Table:
    made = Table(title="speed-up, dense over compact", title_justify="left")
    made.add_column("batch", justify="right")
    for name in ("speed-up", "95% interval", "noise floor", "pairs", "MAC reduction", "efficiency"):
        made.add_column(name, justify="right")
    made.add_column("verdict")
    for entry in result.batches:
        made.add_row(*_speedup_row(entry))
    return made


def _speedup_row(entry: BatchRecord) -> list[str | Text]:
    return [
        str(entry.batch),
        f"{entry.speedup.ratio:.2f}x",
        f"{entry.speedup.low:.2f} to {entry.speedup.high:.2f}",
        f"{entry.floor:.1%}",
        str(entry.speedup.pairs),
        f"{entry.mac_reduction:.2f}x",
        f"{entry.efficiency:.2f}",
        Text(entry.verdict.value, style=_COLOURS[entry.verdict]),
    ]


def _warnings(result: BenchResult) -> list[Text]:
    """What a reader must know before trusting the numbers."""
    busiest = max(entry.others_load for entry in result.batches)
    if busiest <= BUSY:
        return []
    return [
        Text(
            f"Other processes took up to {busiest:.0%} of the processors meanwhile: times are too long, and "
            "with more than one thread the speed-up may be off. Measure again on a quiet machine.",
            style="yellow",
        )
    ]


def _footnote(result: BenchResult) -> str:
    load = "-" if result.before.load_average is None else f"{result.before.load_average[0]:.2f}"
    return (
        f"Timed: {result.timed}. MACs are multiply-accumulates, which papers call FLOPs. Efficiency is "
        f"speed-up over MAC reduction. The dense network's weights are {result.dense.weights}. "
        f"{result.machine.cpu}, {result.machine.cores} cores, load {load}, "
        f"governor {result.before.governor or 'unknown'}; {result.created}."
    )


def _milliseconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"
