"""Render scenario results as Rich tables, with notes on what is included."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from compress.bench.results.value_range import BUSY
from compress.bench.scenarios.latency_summary import LatencySummary, Percentile
from compress.bench.scenarios.rates import Outcome, RateRecord
from compress.bench.scenarios.record import (
    Offline,
    ScenarioComparison,
    ScenarioResult,
    Server,
    SingleStream,
    StreamSide,
    Throughput,
)
from compress.bench.scenarios.sentences import (
    best_batch_sentence,
    format_rate,
    rate_bracket,
    rate_ratio_sentence,
    speed_change_warning,
    speedup_sentence,
)

_COLORS = {Outcome.HOLDS: "green", Outcome.FAILS: "red", Outcome.UNDECIDED: "yellow"}


def render_scenarios(result: ScenarioResult) -> Group:
    """Return the tables of a result for a Rich console."""
    parts: list[RenderableType] = []
    for comparison in result.comparisons:
        where = f"{_name(result, comparison)}, {comparison.backend}, {result.threads} threads"
        if comparison.single_stream:
            parts += _single_stream_parts(comparison.single_stream, where)
        parts += _offline_parts(comparison.offline, where) if comparison.offline else []
        parts += _server_parts(comparison.server, where) if comparison.server else []
    return Group(*parts, *_warnings(result), Text(_footnote(result), style="dim"))


def _name(result: ScenarioResult, comparison: ScenarioComparison) -> str:
    if len(result.artefacts) == 1:
        return comparison.candidate.artefact
    return f"{comparison.candidate.label} against {comparison.baseline.label}"


def _empty_table(title: str, *columns: str, text: tuple[str, ...] = ("network",)) -> Table:
    """Return a table without rows; columns in `text` are left-aligned."""
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, justify="left" if name in text else "right")
    return table


# --- single stream --------------------------------------------------------------------------------------


def _single_stream_parts(result: SingleStream, where: str) -> list[RenderableType]:
    table = _empty_table(
        f"single stream, latency in ms ({where})",
        "network", "p50", "95%", "p90", "95%", "p99", "95%", "mean", "queries",
    )  # fmt: skip
    for side in (result.baseline, result.candidate):
        table.add_row(*_stream_row(side))
    return [table, Text(speedup_sentence(result))]


def _stream_row(side: StreamSide) -> list[str]:
    return [
        side.label if side.settled else f"{side.label} (unstable)",
        *_percentiles(side.times),
        _ms(side.times.mean_ms),
        f"{side.times.count:,}",
    ]


def _percentiles(times: LatencySummary) -> list[str]:
    return [cell for percentile in (times.p50, times.p90, times.p99) for cell in _percentile(percentile)]


def _percentile(percentile: Percentile | None) -> tuple[str, str]:
    if percentile is None:
        return "-", "-"
    high = "?" if percentile.high_ms is None else _ms(percentile.high_ms)
    return _ms(percentile.ms), f"{_ms(percentile.low_ms)} to {high}"


def _ms(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:,.1f}"


# --- offline --------------------------------------------------------------------------------------------


def _offline_parts(result: Offline, where: str) -> list[RenderableType]:
    baseline, candidate = result.best
    table = _empty_table(
        f"offline, images/s ({where})",
        "batch", baseline.label, "95%", candidate.label, "95%", "ratio", "95%", "pairs", "both, MB",
    )  # fmt: skip
    for entry in result.batches:
        table.add_row(
            f"{entry.batch:,}",
            *_throughput(entry.baseline, result),
            *_throughput(entry.candidate, result),
            f"{entry.ratio.ratio:.2f}x",
            f"{entry.ratio.low:.2f} to {entry.ratio.high:.2f}",
            str(entry.ratio.pairs),
            f"{entry.grown_bytes / 1e6:,.0f}",
        )
    return [
        table,
        Text(f"Best: {best_batch_sentence(result)}"),
        Text(f"No larger batch: {result.stopped}."),
    ]


def _throughput(side: Throughput, result: Offline) -> tuple[Text, str]:
    high = "?" if side.high is None else f"{side.high:,.0f}"
    style = "bold" if side in result.best else ""
    return Text(f"{side.images_per_s:,.0f}", style=style), f"{side.low:,.0f} to {high}"


# --- server ---------------------------------------------------------------------------------------------


def _server_parts(result: Server, where: str) -> list[RenderableType]:
    batch = ("batch",) if result.max_batch > 1 else ()
    table = _empty_table(
        f"server, latency from arrival in ms, bound on the p99 {result.bound_ms:g} ms ({where})",
        "network", "queries/s", "load", "busy", "waiting", "max", *batch,
        "p50", "p90", "p99", "95%", "queries", "outcome", text=("network", "outcome"),
    )  # fmt: skip
    for side in (result.baseline, result.candidate):
        for entry in side.rates:
            table.add_row(side.label, *_rate_row(entry, result.max_batch > 1))
    lines = [
        Text(f"{side.label}: {rate_bracket(side)} ({side.ended}).")
        for side in (result.baseline, result.candidate)
    ]
    lines.append(Text(f"{rate_ratio_sentence(result)} Bound: {result.bound_from}."))
    if (warning := speed_change_warning(result)) is not None:
        lines.append(Text(warning, style="yellow"))
    return [table, *lines]


def _rate_row(entry: RateRecord, batched: bool) -> list[str | Text]:
    p50, p90, p99 = (_percentile(value) for value in (entry.times.p50, entry.times.p90, entry.times.p99))
    return [
        format_rate(entry.qps),
        f"{entry.load:.2f}",
        f"{entry.utilisation:.0%}",
        f"{entry.mean_queue:.2f}",
        f"{entry.max_queue:,}",
        *([f"{entry.mean_batch:.2f}"] if batched else []),
        p50[0],
        p90[0],
        *p99,
        f"{entry.times.count:,}",
        Text(entry.outcome.value, style=_COLORS[entry.outcome]),
    ]


# --- warnings and notes ---------------------------------------------------------------------------------


def _warnings(result: ScenarioResult) -> list[Text]:
    busiest = max(comparison.others_load for comparison in result.comparisons)
    if busiest <= BUSY:
        return []
    return [
        Text(
            f"Other processes used up to {busiest:.0%} of the processors during the measurement: times are "
            "too long and rates too low. Measure again on a quiet machine.",
            style="yellow",
        )
    ]


def _footnote(result: ScenarioResult) -> str:
    load = "-" if result.before.load_average is None else f"{result.before.load_average[0]:.2f}"
    timed = dict.fromkeys((comparison.backend, comparison.timed) for comparison in result.comparisons)
    texts = (f"{backend}: {text}" if len(timed) > 1 else text for backend, text in timed)
    weights = (comparison.baseline.weights for comparison in result.comparisons)
    dense = next((text for text in weights if text.startswith("fresh")), None)
    return (
        "".join(f"{name}: {protocol}. " for name, protocol in result.protocol.items())
        + f"One inference: {'. '.join(texts)}. "
        + "The scenarios follow MLPerf, but this is not a conformance run of its LoadGen. "
        + (f"The dense network's weights are {dense}. " if dense else "")
        + f"{result.machine.cpu}, {result.machine.cores} cores, load {load}, "
        f"governor {result.before.governor or 'unknown'}; "
        f"{', '.join(f'{name} {version}' for name, version in result.versions.items())}; {result.created}."
    )
