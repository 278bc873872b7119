"""Arrange the facts for the templates, with headlines, warnings and figures."""

from __future__ import annotations

from dataclasses import dataclass

from compress.bench.explain.record import Explanation
from compress.bench.protocol.stats import Verdict
from compress.bench.report import figures
from compress.bench.report.facts import BenchFacts, LineageRow, Measured, ReportFacts, RunFacts
from compress.bench.report.scenario_view import ScenarioView, scenario_views
from compress.bench.report.staircase_view import StaircaseView, staircase_view
from compress.bench.results.record import RatioRecord
from compress.bench.results.value_range import BUSY
from compress.core.formatting import (
    NO_VALUE,
    format_decimal,
    format_millions,
    format_percent,
    format_ratio,
    format_timestamp,
)

VERDICT_TEXT = {
    Verdict.FASTER: "faster",
    Verdict.SAME: "the same",
    Verdict.SLOWER: "slower",
    Verdict.UNCLEAR: "unclear",
}


@dataclass(frozen=True)
class Headline:
    """One number at the top of a run: its name, its value, and a note."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Line:
    """A row of the lineage with the measurement that is shown in it."""

    row: LineageRow
    shown: Measured | None

    @property
    def measured(self) -> tuple[Measured, ...]:
        """All measurements of the row."""
        return self.row.measured


@dataclass(frozen=True)
class RunView:
    """Section of the report on one run.

    Attributes:
        facts: contents of the run folder.
        lines: its lineage.
        headlines: numbers at the top.
        sentence: the measured speed-up in one sentence.
        warnings: sentences.
        speedups_figure, layers_figure, training_figure, gates_figure: SVG, or None.
        scenarios: view of each comparison in scenarios.
        stairs: view of each latency table.
        machines: rows of a table: property, training machine, measuring machine.
        explained: explanations with their figures, by back end.
    """

    facts: RunFacts
    lines: tuple[Line, ...]
    headlines: tuple[Headline, ...]
    sentence: str
    warnings: tuple[str, ...]
    speedups_figure: str | None
    scenarios: tuple[ScenarioView, ...]
    layers_figure: str | None
    training_figure: str | None
    gates_figure: str | None
    stairs: tuple[StaircaseView, ...]
    machines: tuple[tuple[str, str, str], ...]
    explained: tuple[tuple[Explanation, str | None], ...] = ()


@dataclass(frozen=True)
class ReportView:
    """The whole report.

    Attributes:
        facts: contents of the run folders.
        title: names of the runs.
        where: back end and batch size of the times in the lineage; None without a measurement.
        lines: lineage of all runs.
        runs: sections of the runs.
        accuracy_figure: SVG, or None.
    """

    facts: ReportFacts
    title: str
    where: tuple[str, int] | None
    lines: tuple[Line, ...]
    runs: tuple[RunView, ...]
    accuracy_figure: str | None

    @property
    def several(self) -> bool:
        """Whether there is more than one run."""
        return len(self.runs) > 1


def arrange(facts: ReportFacts) -> ReportView:
    """Arrange the facts and draw the figures."""
    where = _main_setting(facts)
    runs = tuple(_run_view(run, where, f"r{i}") for i, run in enumerate(facts.runs))
    several = len(runs) > 1
    return ReportView(
        facts=facts,
        title=", ".join(run.name for run in facts.runs),
        where=where,
        lines=tuple(line for run in runs for line in run.lines),
        runs=runs,
        accuracy_figure=None
        if where is None
        else figures.draw_accuracy_over_latency(facts.lineage, *where, "accuracy", several),
    )


def _main_setting(facts: ReportFacts) -> tuple[str, int] | None:
    """Return back end and batch size of the first measurement, preferably of a compact network."""
    rows = sorted(facts.lineage, key=lambda row: row.stage != "narrow")
    return next(((m.backend, m.batch) for row in rows for m in row.measured), None)


def _line(row: LineageRow, where: tuple[str, int] | None) -> Line:
    same = next((m for m in row.measured if (m.backend, m.batch) == where), None)
    return Line(row, same or next(iter(row.measured), None))


def _run_view(run: RunFacts, where: tuple[str, int] | None, name: str) -> RunView:
    lines = tuple(_line(row, where) for row in run.lineage)
    main = next((line for line in lines if line.row.stage == "narrow"), lines[0])
    entries = [(row.label, measured) for row in run.lineage for measured in _own_measurements(row, run)]
    return RunView(
        facts=run,
        lines=lines,
        headlines=_headlines(run, main),
        sentence=_sentence(main),
        warnings=_warnings(run),
        speedups_figure=figures.draw_speedups(entries, f"{name}-speedups"),
        explained=tuple(
            (explanation, figures.draw_layer_losses(explanation, f"{name}-explain{i}"))
            for i, explanation in enumerate(run.explained)
        ),
        scenarios=scenario_views(run.scenarios, f"{name}-scenario"),
        layers_figure=figures.draw_layers(run.layers, f"{name}-layers"),
        training_figure=figures.draw_training(run.metrics, f"{name}-training"),
        gates_figure=figures.draw_gates(run.metrics, run.record.method, f"{name}-gates"),
        stairs=tuple(
            staircase_view(table, run.layers, f"{name}-stairs{i}") for i, table in enumerate(run.staircases)
        ),
        machines=_machines(run),
    )


def _own_measurements(row: LineageRow, run: RunFacts) -> tuple[Measured, ...]:
    """Return the measurements of a row that are not shown in an earlier row."""
    before = [m for other in run.lineage[: run.lineage.index(row)] for m in other.measured]
    return tuple(measured for measured in row.measured if measured not in before)


def _headlines(run: RunFacts, line: Line) -> tuple[Headline, ...]:
    row, measured, dense = line.row, line.shown, run.record.dense
    top1 = Headline("top-1", format_percent(row.top1), row.top1_on or "not known")
    if row.stage != "narrow":
        plain = (
            Headline("MACs", format_millions(row.macs), "of one image"),
            Headline("parameters", format_millions(row.params)),
        )
        return (top1, *plain)
    macs, params = row.macs or 0, row.params or 0
    out = [
        top1,
        Headline(
            "MACs", _change(macs, dense.macs), f"{format_millions(macs)} of {format_millions(dense.macs)}"
        ),
        Headline(
            "parameters",
            _change(params, dense.params),
            f"{format_millions(params)} of {format_millions(dense.params)}",
        ),
    ]
    if measured is not None and measured.speedup is not None:
        out += _speed(measured, measured.speedup)
    return tuple(out)


def _speed(measured: Measured, ratio: RatioRecord) -> tuple[Headline, Headline]:
    """Return speed-up and efficiency; an unclear speed-up is not shown as a headline number."""
    interval = f"95%: {ratio.low:.2f} to {ratio.high:.2f}"
    if measured.verdict is Verdict.UNCLEAR:
        return (
            Headline("speed-up", "unclear", f"{format_ratio(ratio.ratio)}, {interval}"),
            Headline("efficiency", NO_VALUE, "too much noise"),
        )
    verdict = NO_VALUE if measured.verdict is None else VERDICT_TEXT[measured.verdict]
    return (
        Headline("speed-up", format_ratio(ratio.ratio), f"{verdict}; {interval}"),
        Headline("efficiency", format_decimal(measured.efficiency), "speed-up over MAC reduction"),
    )


def _change(now: float, before: float) -> str:
    return NO_VALUE if not before else f"{now / before - 1:+.1%}".replace("-", "−")


def _sentence(line: Line) -> str:
    """Return the measured speed-up in one sentence that claims no more than the verdict."""
    measured = line.shown
    if measured is None or measured.speedup is None:
        return ""
    ratio = measured.speedup
    where = f"on {measured.backend} at batch {measured.batch}"
    interval = f"(95% interval {ratio.low:.2f} to {ratio.high:.2f})"
    name, other = line.row.label, measured.against
    texts = {
        Verdict.FASTER: f"{name} is {ratio.ratio:.2f} times as fast as {other} {where} {interval}",
        Verdict.SLOWER: f"{name} is slower than {other} {where}: {ratio.ratio:.2f} times as fast {interval}",
        Verdict.SAME: f"{name} is as fast as {other} {where}, within 2% {interval}",
        Verdict.UNCLEAR: f"The measurement cannot decide whether {name} is faster than {other} {where}: "
        f"{ratio.ratio:.2f} times as fast {interval}, with a noise floor of {format_percent(measured.floor)}",
    }
    text = texts[measured.verdict] if measured.verdict is not None else ""
    if measured.mac_reduction is not None and measured.verdict is not Verdict.UNCLEAR:
        text += (
            f"; it has {measured.mac_reduction:.2f} times fewer MACs, so the speed-up efficiency is "
            f"{format_decimal(measured.efficiency)}"
        )
    return f"{text[:1].upper()}{text[1:]}."


def _warnings(run: RunFacts) -> tuple[str, ...]:
    out = []
    bench = run.bench
    if bench is not None and not bench.is_current:
        out.append("The times were measured before the current compact network was written.")
    if bench is not None and bench.others_load > BUSY:
        out.append(
            f"Other processes used up to {bench.others_load:.0%} of the processors during the measurement: "
            "times are too long, and with more than one thread the speed-up may be wrong."
        )
    scenarios = run.scenarios
    if scenarios is not None and max(entry.others_load for entry in scenarios.comparisons) > BUSY:
        out.append(
            f"Other processes used more than {BUSY:.0%} of the processors while the scenarios were measured: "
            "times are too long and rates too low."
        )
    if not run.scenarios_current:
        out.append("The scenarios were measured before the current compact network was written.")
    stale = [export.record.file for export in run.exports if not export.is_current]
    if stale:
        out.append(f"Not exported from the current compact network: {', '.join(stale)}.")
    out += [f"The exported file {e.record.file} {e.fault}." for e in run.exports if e.fault is not None]
    if any(not step.passed for step in run.parity):
        out.append("A check of the parity chain failed.")
    return tuple(out)


def _machines(run: RunFacts) -> tuple[tuple[str, str, str], ...]:
    """Return rows of a table: property, training machine, measuring machine."""
    record, bench = run.record, run.bench
    trained, measured = record.machine, None if bench is None else bench.machine
    rows = [
        ("when", format_timestamp(record.created), "" if bench is None else format_timestamp(bench.created)),
        ("processor", trained.cpu, "" if measured is None else measured.cpu),
        ("cores", str(trained.cores), "" if measured is None else str(measured.cores)),
        ("memory", _gib(trained.memory_bytes), "" if measured is None else _gib(measured.memory_bytes)),
        (
            "GPUs",
            ", ".join(trained.gpus) or "none",
            "" if measured is None else ", ".join(measured.gpus) or "none",
        ),
        ("system", trained.platform, "" if measured is None else measured.platform),
    ]
    if bench is not None:
        rows += _measurement_rows(bench)
    names = dict.fromkeys((*record.versions, *({} if bench is None else bench.versions)))
    rows += [
        (name, record.versions.get(name, ""), "" if bench is None else bench.versions.get(name, ""))
        for name in names
    ]
    return tuple(rows)


def _measurement_rows(bench: BenchFacts) -> list[tuple[str, str, str]]:
    def load(average: tuple[float, float, float] | None) -> str:
        return "unknown" if average is None else f"{average[0]:.2f}"

    loads = f"{load(bench.before.load_average)} before, {load(bench.after.load_average)} after"
    return [
        ("threads", "", str(bench.threads)),
        ("governor", "", bench.before.governor or "unknown"),
        ("load average", "", loads),
        ("other processes", "", f"up to {bench.others_load:.0%} of the processors"),
    ]


def _gib(value: int) -> str:
    return f"{value / 2**30:.1f} GiB"
