"""Result of a comparison of methods: `compare.json`, its table and its figure."""

from __future__ import annotations

import io
import statistics
from collections.abc import Collection, Sequence
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import Field, PrivateAttr
from rich.console import Console, Group
from rich.table import Table

from compress.core.files import atomic_path
from compress.core.formatting import format_count, format_ms, format_percent
from compress.core.spec import SCHEMA_VERSION, Record

BASELINES = ("l1", "random", "scratch")
"""Methods that the others must beat."""

COLUMNS = ("method", "top-1", "spread", "MACs", "parameters", "epochs", "seconds", "latency", "speed-up")


class ComparedRun(Record):
    """One method trained with one seed.

    Attributes:
        method: name of the method in this comparison.
        seed: seed of the training.
        run: its run folder.
        top1: accuracy on the test images, a fraction.
        macs, params: costs of the compact model.
        epochs: epochs of the method itself.
        dense_epochs: epochs of the dense network that it started from.
        seconds: training time, including the dense network's.
    """

    method: str
    seed: int
    run: str
    top1: float
    macs: int
    params: int
    epochs: int
    dense_epochs: int
    seconds: float


class MethodLatency(Record):
    """Latency of the dense network and the compact model of one run at batch 1.

    Attributes:
        run: name of the run folder.
        dense_ms, compact_ms: median latencies in milliseconds.
        speedup: of the compact model over the dense network.
        low, high: ends of its 95% interval.
        verdict: see `compress.bench.protocol.stats.Verdict`.
    """

    run: str
    dense_ms: float
    compact_ms: float
    speedup: float
    low: float
    high: float
    verdict: str


class MethodSummary(Record):
    """One method over all seeds.

    Attributes:
        method: name of the method in this comparison.
        seeds: number of seeds.
        top1_mean, top1_low, top1_high: mean and range of the accuracy, fractions.
        top1_spread: sample standard deviation of the accuracy.
        macs, params: mean costs of the compact models.
        epochs: epochs of the method itself.
        dense_epochs: epochs of the dense network that it started from.
        seconds: mean training time, including the dense network's.
        latency: latency of the first seed's networks; None if it was not measured.
    """

    method: str
    seeds: int
    top1_mean: float
    top1_spread: float
    top1_low: float
    top1_high: float
    macs: float
    params: float
    epochs: int
    dense_epochs: int
    seconds: float
    latency: MethodLatency | None = None


class Comparison(Record):
    """Result of a comparison, stored as `compare.json`; prints as a table.

    Attributes:
        model, data, target: what was trained; the names of objects that were passed.
        epochs: epochs of every method, including those of its dense network.
        seeds: number of seeds.
        dense_macs, dense_params: costs of the dense network.
        rows: one summary per method.
        cells: one training per method and seed.
        beaten_by: for each method, the baselines whose mean accuracy is at least as high.
    """

    schema_version: int = SCHEMA_VERSION
    model: str
    data: str
    target: str
    epochs: int
    seeds: int
    dense_macs: int
    dense_params: int
    rows: tuple[MethodSummary, ...]
    cells: tuple[ComparedRun, ...]
    beaten_by: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    _temporary: TemporaryDirectory[str] | None = PrivateAttr(default=None)

    @property
    def title(self) -> str:
        """One line: model, data, target, epochs, seeds and the dense network's MACs."""
        return (
            f"{self.model} on {self.data}, {self.target}, {self.epochs} epochs, {self.seeds} seeds "
            f"(dense: {format_count(self.dense_macs)} MACs)"
        )

    def parts(self) -> list[Table | str]:
        """Return a table with a row per method, and a line for every method that a baseline matches."""
        table = Table(title=self.title, title_justify="left")
        for column in COLUMNS:
            table.add_column(column, justify="left" if column == "method" else "right")
        for row in self.rows:
            table.add_row(*_texts(row))
        return [table, *self._notes()]

    def __str__(self) -> str:
        console = Console(file=io.StringIO(), width=120, force_terminal=False, color_system=None)
        console.print(Group(*self.parts()))
        return str(console.file.getvalue()).rstrip()  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        results = ", ".join(f"{row.method} {format_percent(row.top1_mean)}" for row in self.rows)
        return f"Comparison({self.title}: {results})"

    def _repr_html_(self) -> str:
        header = "".join(f"<th>{column}</th>" for column in COLUMNS)
        rows = "".join(
            f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in _texts(row))}</tr>" for row in self.rows
        )
        notes = "".join(f"<p>{escape(note)}</p>" for note in self._notes())
        return f"<p><b>{escape(self.title)}</b></p><table><tr>{header}</tr>{rows}</table>{notes}"

    def _notes(self) -> list[str]:
        return [
            f"{method} is not better than {' and '.join(baselines)} here"
            for method, baselines in self.beaten_by.items()
        ]


def _texts(row: MethodSummary) -> list[str]:
    epochs = f"{row.dense_epochs} dense + {row.epochs}" if row.dense_epochs else str(row.epochs)
    measured = row.latency
    return [
        row.method,
        f"{row.top1_mean:.2%}",
        f"± {row.top1_spread:.2%}",
        format_count(row.macs),
        format_count(row.params),
        epochs,
        f"{row.seconds:.0f}",
        format_ms(measured.compact_ms) if measured else "",
        f"{measured.speedup:.2f}x ({measured.low:.2f} to {measured.high:.2f})" if measured else "",
    ]


def summarize(method: str, runs: Sequence[ComparedRun], latency: MethodLatency | None) -> MethodSummary:
    """Return the summary of one method's runs."""
    top1 = [run.top1 for run in runs]
    return MethodSummary(
        method=method,
        seeds=len(runs),
        top1_mean=statistics.fmean(top1),
        top1_spread=statistics.stdev(top1) if len(top1) > 1 else 0.0,
        top1_low=min(top1),
        top1_high=max(top1),
        macs=statistics.fmean(run.macs for run in runs),
        params=statistics.fmean(run.params for run in runs),
        epochs=runs[0].epochs,
        dense_epochs=runs[0].dense_epochs,
        seconds=statistics.fmean(run.seconds for run in runs),
        latency=latency,
    )


def matching_baselines(
    rows: Sequence[MethodSummary], baselines: Collection[str] = BASELINES
) -> dict[str, tuple[str, ...]]:
    """Return, for each method that is not better than every baseline, the baselines that match or beat it."""
    references = [row for row in rows if row.method in baselines]
    matches = {
        row.method: tuple(other.method for other in references if other.top1_mean >= row.top1_mean)
        for row in rows
        if row.method not in baselines
    }
    return {method: names for method, names in matches.items() if names}


def plot_comparison(result: Comparison, path: Path) -> None:
    """Draw the accuracy of every seed over MACs, and the measured latencies next to it, as PNG."""
    from matplotlib.figure import Figure

    timed = [row for row in result.rows if row.latency is not None]
    figure = Figure(figsize=(11 if timed else 6, 4), layout="constrained")
    axes = figure.subplots(1, 2 if timed else 1, squeeze=False)[0]
    for i, row in enumerate(result.rows):
        runs = [run for run in result.cells if run.method == row.method]
        color = f"C{i}"
        axes[0].scatter(
            [run.macs / 1e6 for run in runs], [100 * run.top1 for run in runs], color=color, s=14, alpha=0.5
        )
        axes[0].errorbar(
            row.macs / 1e6,
            100 * row.top1_mean,
            100 * row.top1_spread,
            fmt="D",
            color=color,
            capsize=4,
            label=row.method,
        )
    axes[0].set(
        xlabel="MACs per image (millions)",
        ylabel="top-1 (%)",
        title=f"{result.model}, {result.data}, {result.target}, {result.epochs} epochs, {result.seeds} seeds",
    )
    axes[0].legend()
    if timed:
        first = timed[0].latency
        assert first is not None
        axes[1].bar(
            ["dense", *(row.method for row in timed)],
            [first.dense_ms, *(row.latency.compact_ms for row in timed if row.latency is not None)],
            color=["grey", *(f"C{result.rows.index(row)}" for row in timed)],
        )
        axes[1].set(ylabel="median latency at batch 1 (ms)", title="measured, first seed")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
