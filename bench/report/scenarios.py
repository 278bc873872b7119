"""The report's part on the scenarios: what to show of each comparison, and its two curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.bench.report import svg
from compress.bench.report.svg import COMPACT, DENSE, MUTED
from compress.bench.scenarios import words
from compress.bench.scenarios.rates import Outcome, RateRecord
from compress.bench.scenarios.record import Offline, ScenarioComparison, ScenarioResult, Server, Throughput

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKS = {Outcome.HOLDS: "o", Outcome.UNDECIDED: "D", Outcome.FAILS: "x"}


@dataclass(frozen=True)
class ScenarioView:
    """One comparison in its scenarios.

    Attributes:
        sentences: what was found, a sentence for each scenario.
        throughput_figure, latency_figure: SVG, or None.
    """

    found: ScenarioComparison
    sentences: tuple[str, ...]
    throughput_figure: str | None
    latency_figure: str | None


def views(result: ScenarioResult | None, name: str) -> tuple[ScenarioView, ...]:
    """Return what to show of each comparison; `name` is that of no other figure of the page."""
    if result is None:
        return ()
    return tuple(
        ScenarioView(
            found=found,
            sentences=tuple(_sentences(found)),
            throughput_figure=None if found.offline is None else throughput(found.offline, f"{name}o{i}"),
            latency_figure=None if found.server is None else latency(found.server, f"{name}s{i}"),
        )
        for i, found in enumerate(result.comparisons)
    )


def _sentences(found: ScenarioComparison) -> list[str]:
    out = []
    if found.single_stream is not None:
        out.append(f"Single stream: {words.speed(found.single_stream)}")
    if found.offline is not None:
        out.append(
            f"Offline, best batches: {words.best(found.offline)} No larger batch: {found.offline.stopped}."
        )
    if found.server is not None:
        served = found.server
        sides = ", ".join(f"{s.label}: {words.largest(s)}" for s in (served.baseline, served.candidate))
        bound = f"p99 within {served.bound_ms:g} ms ({served.bound_from})"
        changed = words.change_of_speed(served)
        out.append(f"Server, {bound}: {sides}. {words.ratio_of_rates(served)} {changed or ''}".rstrip())
    return out


def throughput(found: Offline, name: str) -> str:
    """Images a second over the batch size, with their intervals; the best of each network is filled."""
    with svg.styled():
        figure = svg.figure(2.6)
        axes = figure.add_subplot()
        svg.bare(axes, "y")
        sides = (
            ([entry.baseline for entry in found.batches], DENSE, found.best[0]),
            ([entry.candidate for entry in found.batches], COMPACT, found.best[1]),
        )
        for entries, colour, best in sides:
            _throughputs(axes, entries, colour, best)
        axes.set_xscale("log", base=2)
        batches = [entry.batch for entry in found.batches]
        axes.set_xticks(batches, [f"{batch:,}" for batch in batches])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set(xlabel="batch", ylabel="images/s")
        svg.legend(axes)
        return svg.inline(figure, name, "Throughput over the batch size")


def _throughputs(axes: Axes, entries: Sequence[Throughput], colour: str, best: Throughput) -> None:
    batches = [entry.batch for entry in entries]
    axes.plot(batches, [entry.images_per_s for entry in entries], color=colour, label=best.label)
    for entry in entries:
        high = entry.images_per_s if entry.high is None else entry.high
        axes.plot([entry.batch] * 2, [entry.low, high], color=colour, linewidth=2.4, alpha=0.4)
    axes.plot(best.batch, best.images_per_s, "o", color=colour, markersize=6)


def latency(found: Server, name: str) -> str:
    """The p99 over the rate of queries, with its intervals, and the bound."""
    with svg.styled():
        figure = svg.figure(2.8)
        axes = figure.add_subplot()
        svg.bare(axes, "y")
        for side, colour in ((found.baseline, DENSE), (found.candidate, COMPACT)):
            _latencies(axes, side.rates, colour, side.label)
        axes.axhline(found.bound_ms, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), label="bound")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda value, _: "")
        axes.set_xlim(left=0)
        axes.set(xlabel="queries a second", ylabel="p99 from the arrival, ms")
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, borderpad=0, handlelength=1.4)
        return svg.inline(figure, name, "The p99 of the latency over the rate of queries")


def _latencies(axes: Axes, rates: Sequence[RateRecord], colour: str, label: str) -> None:
    known = [(entry, entry.times.p99) for entry in rates if entry.times.p99 is not None]
    axes.plot(
        [entry.qps for entry, _ in known], [p99.ms for _, p99 in known if p99], color=colour, label=label
    )
    for entry, p99 in known:
        if p99 is not None:
            high = p99.ms if p99.high_ms is None else p99.high_ms
            axes.plot([entry.qps] * 2, [p99.low_ms, high], color=colour, linewidth=2.4, alpha=0.4)
            axes.plot(entry.qps, p99.ms, MARKS[entry.outcome], color=colour, markersize=5)
