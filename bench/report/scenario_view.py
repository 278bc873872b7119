"""Section of the report on the scenarios: sentences, and curves of throughput and latency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.bench.report import svg
from compress.bench.report.svg import COMPACT, DENSE, MUTED
from compress.bench.scenarios import sentences
from compress.bench.scenarios.rates import Outcome, RateRecord
from compress.bench.scenarios.record import Offline, ScenarioComparison, ScenarioResult, Server, Throughput

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKS = {Outcome.HOLDS: "o", Outcome.UNDECIDED: "D", Outcome.FAILS: "x"}


@dataclass(frozen=True)
class ScenarioView:
    """Scenarios of one comparison.

    Attributes:
        comparison: the measurements.
        sentences: one or more sentences per scenario.
        throughput_figure, latency_figure: SVG, or None.
    """

    comparison: ScenarioComparison
    sentences: tuple[str, ...]
    throughput_figure: str | None
    latency_figure: str | None


def scenario_views(result: ScenarioResult | None, name: str) -> tuple[ScenarioView, ...]:
    """Return a view of each comparison; `name` must be unique among the figures of the page."""
    if result is None:
        return ()
    return tuple(
        ScenarioView(
            comparison=entry,
            sentences=tuple(_sentences(entry)),
            throughput_figure=None
            if entry.offline is None
            else draw_throughput(entry.offline, f"{name}o{i}"),
            latency_figure=None if entry.server is None else draw_latency(entry.server, f"{name}s{i}"),
        )
        for i, entry in enumerate(result.comparisons)
    )


def _sentences(comparison: ScenarioComparison) -> list[str]:
    out = []
    if comparison.single_stream is not None:
        out.append(f"Single stream: {sentences.speedup_sentence(comparison.single_stream)}")
    if comparison.offline is not None:
        out.append(
            f"Offline, best batch sizes: {sentences.best_batch_sentence(comparison.offline)} "
            f"No larger batch: {comparison.offline.stopped}."
        )
    if comparison.server is not None:
        server = comparison.server
        sides = ", ".join(
            f"{side.label}: {sentences.rate_bracket(side)}" for side in (server.baseline, server.candidate)
        )
        bound = f"bound on the p99 {server.bound_ms:g} ms ({server.bound_from})"
        ratio, warning = sentences.rate_ratio_sentence(server), sentences.speed_change_warning(server)
        out.append(f"Server, {bound}: {sides}. {ratio} {warning or ''}".rstrip())
    return out


def draw_throughput(offline: Offline, name: str) -> str:
    """Draw images per second over the batch size with intervals; the best of each network has a dot."""
    with svg.styled():
        figure = svg.figure(2.6)
        axes = figure.add_subplot()
        svg.grid_only(axes, "y")
        sides = (
            ([entry.baseline for entry in offline.batches], DENSE, offline.best[0]),
            ([entry.candidate for entry in offline.batches], COMPACT, offline.best[1]),
        )
        for entries, color, best in sides:
            _draw_throughputs(axes, entries, color, best)
        axes.set_xscale("log", base=2)
        batches = [entry.batch for entry in offline.batches]
        axes.set_xticks(batches, [f"{batch:,}" for batch in batches])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set(xlabel="batch", ylabel="images/s")
        svg.legend(axes)
        return svg.inline(figure, name, "Throughput over the batch size")


def _draw_throughputs(axes: Axes, entries: Sequence[Throughput], color: str, best: Throughput) -> None:
    batches = [entry.batch for entry in entries]
    axes.plot(batches, [entry.images_per_s for entry in entries], color=color, label=best.label)
    for entry in entries:
        high = entry.images_per_s if entry.high is None else entry.high
        axes.plot([entry.batch] * 2, [entry.low, high], color=color, linewidth=2.4, alpha=0.4)
    axes.plot(best.batch, best.images_per_s, "o", color=color, markersize=6)


def draw_latency(server: Server, name: str) -> str:
    """Draw the p99 over the rate of queries with intervals, and the bound."""
    with svg.styled():
        figure = svg.figure(2.8)
        axes = figure.add_subplot()
        svg.grid_only(axes, "y")
        for side, color in ((server.baseline, DENSE), (server.candidate, COMPACT)):
            _draw_latencies(axes, side.rates, color, side.label)
        axes.axhline(server.bound_ms, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), label="bound")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda value, _: "")
        axes.set_xlim(left=0)
        axes.set(xlabel="queries per second", ylabel="p99 from arrival, ms")
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, borderpad=0, handlelength=1.4)
        return svg.inline(figure, name, "The p99 of the latency over the rate of queries")


def _draw_latencies(axes: Axes, rates: Sequence[RateRecord], color: str, label: str) -> None:
    known = [(entry, entry.times.p99) for entry in rates if entry.times.p99 is not None]
    axes.plot(
        [entry.qps for entry, _ in known], [p99.ms for _, p99 in known if p99], color=color, label=label
    )
    for entry, p99 in known:
        if p99 is not None:
            high = p99.ms if p99.high_ms is None else p99.high_ms
            axes.plot([entry.qps] * 2, [p99.low_ms, high], color=color, linewidth=2.4, alpha=0.4)
            axes.plot(entry.qps, p99.ms, MARKS[entry.outcome], color=color, markersize=5)
