"""Scenarios for people: a table for each, and what it contains and does not."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from compress.bench.results.value_range import BUSY
from compress.bench.scenarios.rates import Outcome, RateRecord
from compress.bench.scenarios.record import (
    Offline,
    ScenarioComparison,
    ScenarioResult,
    Server,
    ServerSide,
    SingleStream,
    StreamSide,
    Throughput,
)
from compress.bench.scenarios.times import Percentile, Times
from compress.bench.scenarios.words import best, change_of_speed, largest, ms, rate, ratio_of_rates, speed

_COLOURS = {Outcome.HOLDS: "green", Outcome.FAILS: "red", Outcome.UNDECIDED: "yellow"}


def table(result: ScenarioResult) -> Group:
    """Return everything a reader needs to judge the result, for a Rich console."""
    parts: list[RenderableType] = []
    for found in result.comparisons:
        where = f"{_names(result, found)}, {found.backend}, {result.threads} threads"
        parts += _stream(found.single_stream, where) if found.single_stream else []
        parts += _offline(found.offline, where) if found.offline else []
        parts += _server(found.server, where) if found.server else []
    return Group(*parts, *_warnings(result), Text(_footnote(result), style="dim"))


def _names(result: ScenarioResult, found: ScenarioComparison) -> str:
    """What a title calls a comparison."""
    if len(result.artefacts) == 1:
        return found.candidate.artefact
    return f"{found.candidate.label} against {found.baseline.label}"


def _titled(title: str, *columns: str, text: tuple[str, ...] = ("network",)) -> Table:
    made = Table(title=title, title_justify="left")
    for name in columns:
        made.add_column(name, justify="left" if name in text else "right")
    return made


# --- single stream --------------------------------------------------------------------------------------


def _stream(found: SingleStream, where: str) -> list[RenderableType]:
    made = _titled(
        f"single stream, latency in ms ({where})",
        "network", "p50", "95%", "p90", "95%", "p99", "95%", "mean", "queries",
    )  # fmt: skip
    for side in (found.baseline, found.candidate):
        made.add_row(*_stream_row(side))
    return [made, Text(speed(found))]


def _stream_row(side: StreamSide) -> list[str]:
    taken = side.times
    return [
        side.label if side.settled else f"{side.label} (unsettled)",
        *_percentiles(taken),
        ms(taken.mean_ms),
        f"{taken.count:,}",
    ]


def _percentiles(taken: Times) -> list[str]:
    return [cell for one in (taken.p50, taken.p90, taken.p99) for cell in _percentile(one)]


def _percentile(found: Percentile | None) -> tuple[str, str]:
    if found is None:
        return "-", "-"
    return ms(found.ms), f"{ms(found.low_ms)} to {'any' if found.high_ms is None else ms(found.high_ms)}"


# --- offline --------------------------------------------------------------------------------------------


def _offline(found: Offline, where: str) -> list[RenderableType]:
    one, other = found.best
    made = _titled(
        f"offline, images/s ({where})",
        "batch", one.label, "95%", other.label, "95%", "ratio", "95%", "pairs", "both, MB",
    )  # fmt: skip
    for entry in found.batches:
        made.add_row(
            f"{entry.batch:,}",
            *_throughput(entry.baseline, found),
            *_throughput(entry.candidate, found),
            f"{entry.ratio.ratio:.2f}x",
            f"{entry.ratio.low:.2f} to {entry.ratio.high:.2f}",
            str(entry.ratio.pairs),
            f"{entry.grown_bytes / 1e6:,.0f}",
        )
    return [made, Text(f"Best: {best(found)}"), Text(f"No larger batch: {found.stopped}.")]


def _throughput(side: Throughput, found: Offline) -> tuple[Text, str]:
    high = "any" if side.high is None else f"{side.high:,.0f}"
    style = "bold" if side in found.best else ""
    return Text(f"{side.images_per_s:,.0f}", style=style), f"{side.low:,.0f} to {high}"


# --- server ---------------------------------------------------------------------------------------------


def _server(found: Server, where: str) -> list[RenderableType]:
    batch = ("batch",) if found.max_batch > 1 else ()
    made = _titled(
        f"server, latency from the arrival in ms, p99 within {found.bound_ms:g} ms ({where})",
        "network", "queries/s", "load", "busy", "waiting", "most", *batch,
        "p50", "p90", "p99", "95%", "queries", "outcome", text=("network", "outcome"),
    )  # fmt: skip
    for side in (found.baseline, found.candidate):
        for entry in side.rates:
            made.add_row(side.label, *_rate_row(entry, found.max_batch > 1))
    lines = [Text(_largest(side)) for side in (found.baseline, found.candidate)]
    lines.append(Text(f"{ratio_of_rates(found)} The bound is {_bound(found)}."))
    if (changed := change_of_speed(found)) is not None:
        lines.append(Text(changed, style="yellow"))
    return [made, *lines]


def _rate_row(entry: RateRecord, batched: bool) -> list[str | Text]:
    taken = entry.times
    p50, p90, p99 = (_percentile(one) for one in (taken.p50, taken.p90, taken.p99))
    return [
        rate(entry.qps),
        f"{entry.load:.2f}",
        f"{entry.utilisation:.0%}",
        f"{entry.mean_queue:.2f}",
        f"{entry.max_queue:,}",
        *([f"{entry.mean_batch:.2f}"] if batched else []),
        p50[0],
        p90[0],
        *p99,
        f"{taken.count:,}",
        Text(entry.outcome.value, style=_COLOURS[entry.outcome]),
    ]


def _largest(side: ServerSide) -> str:
    return f"{side.label}: {largest(side)} ({side.ended})."


def _bound(found: Server) -> str:
    return "the one given" if found.bound_from == "given" else found.bound_from


# --- what must be known ---------------------------------------------------------------------------------


def _warnings(result: ScenarioResult) -> list[Text]:
    busiest = max(found.others_load for found in result.comparisons)
    if busiest <= BUSY:
        return []
    return [
        Text(
            f"Other processes took up to {busiest:.0%} of the processors meanwhile: times are too long and "
            "rates too low. Measure again on a quiet machine.",
            style="yellow",
        )
    ]


def _footnote(result: ScenarioResult) -> str:
    load = "-" if result.before.load_average is None else f"{result.before.load_average[0]:.2f}"
    timed = dict.fromkeys((found.backend, found.timed) for found in result.comparisons)
    texts = (f"{backend}: {text}" if len(timed) > 1 else text for backend, text in timed)
    weights = (found.baseline.weights for found in result.comparisons)
    dense = next((text for text in weights if text.startswith("fresh")), None)
    return (
        "".join(f"{name}: {said}. " for name, said in result.protocol.items())
        + f"One inference: {'. '.join(texts)}. "
        + "Scenarios are MLPerf's in kind, not a conformance run of its LoadGen. "
        + (f"The dense network's weights are {dense}. " if dense else "")
        + f"{result.machine.cpu}, {result.machine.cores} cores, load {load}, "
        f"governor {result.before.governor or 'unknown'}; "
        f"{', '.join(f'{name} {version}' for name, version in result.versions.items())}; {result.created}."
    )
