"""What the templates show: the facts, arranged, with their figures."""

from __future__ import annotations

from dataclasses import dataclass

from compress.bench.explain.record import Explanation
from compress.bench.protocol.stats import Verdict
from compress.bench.report import figures, words
from compress.bench.report.explained import layer_bars
from compress.bench.report.facts import BenchFacts, LineageRow, Measured, ReportFacts, RunFacts
from compress.bench.report.scenario_view import ScenarioView, scenario_views
from compress.bench.report.staircase_view import StaircaseView, staircase_view
from compress.bench.results.record import RatioRecord

BUSY = 0.1
"""Share of the processors that others may take before the report warns."""


@dataclass(frozen=True)
class Headline:
    """One number at the top of a run: what it is, the number, and what it rests on."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Line:
    """A row of the lineage with the one measurement that is shown beside it."""

    row: LineageRow
    found: Measured | None

    @property
    def measured(self) -> tuple[Measured, ...]:
        """All of its measurements."""
        return self.row.measured


@dataclass(frozen=True)
class RunView:
    """One run's part of the report.

    Attributes:
        lines: its lineage. sentence: what was found, in one sentence.
        layers_figure, training_figure, gates_figure, speedups_figure: SVG, or None.
        explained: where the speed-up was lost, with a figure, by back end.
        stairs: a view of each table of latency against width.
        machines: the facts of the machine, by where it did what: name, of the training, of the measurement.
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
        where: the back end and batch size whose times stand in the lineage; None without a measurement.
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


def view(facts: ReportFacts) -> ReportView:
    """Arrange the facts and draw the figures."""
    where = _where(facts)
    runs = tuple(_run(run, where, f"r{i}") for i, run in enumerate(facts.runs))
    several = len(runs) > 1
    return ReportView(
        facts=facts,
        title=", ".join(run.name for run in facts.runs),
        where=where,
        lines=tuple(line for run in runs for line in run.lines),
        runs=runs,
        accuracy_figure=None
        if where is None
        else figures.accuracy_over_latency(facts.lineage, *where, "accuracy", several),
    )


def _where(facts: ReportFacts) -> tuple[str, int] | None:
    """The first measurement of a narrow network, or of anything."""
    rows = sorted(facts.lineage, key=lambda row: row.stage != "narrow")
    return next(((m.backend, m.batch) for row in rows for m in row.measured), None)


def _line(row: LineageRow, where: tuple[str, int] | None) -> Line:
    same = next((m for m in row.measured if (m.backend, m.batch) == where), None)
    return Line(row, same or next(iter(row.measured), None))


def _run(run: RunFacts, where: tuple[str, int] | None, name: str) -> RunView:
    lines = tuple(_line(row, where) for row in run.lineage)
    main = next((line for line in lines if line.row.stage == "narrow"), lines[0])
    entries = [(row.label, found) for row in run.lineage for found in _own(row, run)]
    return RunView(
        facts=run,
        lines=lines,
        headlines=_headlines(run, main),
        sentence=_sentence(main),
        warnings=_warnings(run),
        speedups_figure=figures.speedups(entries, f"{name}-speedups"),
        explained=tuple(
            (found, layer_bars(found, f"{name}-explain{i}")) for i, found in enumerate(run.explained)
        ),
        scenarios=scenario_views(run.scenarios, f"{name}-scenario"),
        layers_figure=figures.layers(run.layers, f"{name}-layers"),
        training_figure=figures.training(run.metrics, f"{name}-training"),
        gates_figure=figures.gates(run.metrics, run.record.method, f"{name}-gates"),
        stairs=tuple(
            staircase_view(table, run.layers, f"{name}-stairs{i}") for i, table in enumerate(run.staircases)
        ),
        machines=_machines(run),
    )


def _own(row: LineageRow, run: RunFacts) -> tuple[Measured, ...]:
    """A row's measurements, but those that stand already beside the network a file was made from."""
    before = [m for other in run.lineage[: run.lineage.index(row)] for m in other.measured]
    return tuple(found for found in row.measured if found not in before)


def _headlines(run: RunFacts, line: Line) -> tuple[Headline, ...]:
    row, found, dense = line.row, line.found, run.record.dense
    top1 = Headline("top-1", words.percent(row.top1), row.top1_on or "not known")
    if row.stage != "narrow":
        plain = (
            Headline("MACs", words.millions(row.macs), "of one image"),
            Headline("parameters", words.millions(row.params)),
        )
        return (top1, *plain)
    macs, params = row.macs or 0, row.params or 0
    out = [
        top1,
        Headline(
            "MACs", _change(macs, dense.macs), f"{words.millions(macs)} of {words.millions(dense.macs)}"
        ),
        Headline(
            "parameters",
            _change(params, dense.params),
            f"{words.millions(params)} of {words.millions(dense.params)}",
        ),
    ]
    if found is not None and found.speedup is not None:
        out += _speed(found, found.speedup)
    return tuple(out)


def _speed(found: Measured, ratio: RatioRecord) -> tuple[Headline, Headline]:
    """Speed-up and efficiency; of an unclear one no number stands large."""
    interval = f"95%: {ratio.low:.2f} to {ratio.high:.2f}"
    if found.verdict is Verdict.UNCLEAR:
        return (
            Headline("speed-up", "unclear", f"{words.times(ratio.ratio)}, {interval}"),
            Headline("efficiency", words.NOTHING, "the noise is too large"),
        )
    return (
        Headline("speed-up", words.times(ratio.ratio), f"{words.verdict(found.verdict)}; {interval}"),
        Headline("efficiency", words.decimals(found.efficiency), "speed-up over MAC reduction"),
    )


def _change(now: float, before: float) -> str:
    return words.NOTHING if not before else f"{now / before - 1:+.1%}".replace("-", "−")


def _sentence(line: Line) -> str:
    """What was measured, in one sentence that claims no more than the verdict."""
    found = line.found
    if found is None or found.speedup is None:
        return ""
    ratio = found.speedup
    where = f"on {found.backend} at batch {found.batch}"
    interval = f"(95% interval {ratio.low:.2f} to {ratio.high:.2f})"
    name, other = line.row.label, found.against
    said = {
        Verdict.FASTER: f"{name} is {ratio.ratio:.2f} times as fast as {other} {where} {interval}",
        Verdict.SLOWER: f"{name} is slower than {other} {where}: {ratio.ratio:.2f} times as fast {interval}",
        Verdict.SAME: f"{name} is as fast as {other} {where}, within 2% {interval}",
        Verdict.UNCLEAR: f"Whether {name} is faster than {other} {where} cannot be told from this "
        f"measurement: {ratio.ratio:.2f} times its speed {interval}, "
        f"and the machine differs from itself by {words.percent(found.floor)}",
    }
    text = said[found.verdict] if found.verdict is not None else ""
    if found.mac_reduction is not None and found.verdict is not Verdict.UNCLEAR:
        text += (
            f"; its multiply-accumulates are {found.mac_reduction:.2f} times fewer, which makes a speed-up "
            f"efficiency of {words.decimals(found.efficiency)}"
        )
    return f"{text[:1].upper()}{text[1:]}."


def _warnings(run: RunFacts) -> tuple[str, ...]:
    out = []
    bench = run.bench
    if bench is not None and not bench.is_current:
        out.append("The times were measured before the compact network of now was written.")
    if bench is not None and bench.others_load > BUSY:
        out.append(
            f"Other processes took up to {bench.others_load:.0%} of the processors during the measurement: "
            "times are too long, and with more than one thread the speed-up may be off."
        )
    served = run.scenarios
    if served is not None and max(found.others_load for found in served.comparisons) > BUSY:
        out.append(
            f"Other processes took more than {BUSY:.0%} of the processors while the scenarios were measured: "
            "times are too long, rates too low."
        )
    if not run.scenarios_current:
        out.append("The scenarios were measured before the compact network of now was written.")
    stale = [found.record.file for found in run.exports if not found.is_current]
    if stale:
        out.append(f"Not made from the compact network of now: {', '.join(stale)}.")
    out += [f"The exported file {f.record.file} {f.fault}." for f in run.exports if f.fault is not None]
    if any(not step.passed for step in run.parity):
        out.append("A link of the parity chain failed.")
    return tuple(out)


def _machines(run: RunFacts) -> tuple[tuple[str, str, str], ...]:
    """Rows of a table: what, where it was trained, where it was measured."""
    record, bench = run.record, run.bench
    trained, measured = record.machine, None if bench is None else bench.machine
    rows = [
        ("when", words.moment(record.created), "" if bench is None else words.moment(bench.created)),
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
        rows += _state(bench)
    names = dict.fromkeys((*record.versions, *({} if bench is None else bench.versions)))
    rows += [
        (name, record.versions.get(name, ""), "" if bench is None else bench.versions.get(name, ""))
        for name in names
    ]
    return tuple(rows)


def _state(bench: BenchFacts) -> list[tuple[str, str, str]]:
    def load(average: tuple[float, float, float] | None) -> str:
        return "not told" if average is None else f"{average[0]:.2f}"

    loads = f"{load(bench.before.load_average)} before, {load(bench.after.load_average)} after"
    return [
        ("threads", "", str(bench.threads)),
        ("governor", "", bench.before.governor or "not told"),
        ("load average", "", loads),
        ("others' share", "", f"up to {bench.others_load:.0%} of the processors"),
    ]


def _gib(value: int) -> str:
    return f"{value / 2**30:.1f} GiB"
