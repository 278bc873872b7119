"""Compare methods with the same network, data, target and number of epochs over several seeds.

Every method and seed has its own run folder, so an interrupted comparison can be resumed. A dense network
that several methods start from is trained once per seed; its epochs count in the budget of each of them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field
from rich.table import Table

from compress.artifact import CompactInfo, compact_info
from compress.bench.pipeline import bench
from compress.bench.results import record
from compress.bench.results.table import summary_row
from compress.core.errors import CompressError
from compress.core.files import atomic_path, read_json, write_json
from compress.core.spec import SCHEMA_VERSION, Record
from compress.methods import METHODS
from compress.pipeline import TrainRequest, dense_epochs, needs_dense, resolve, run_training
from compress.training import Progress, TrainConfig
from compress.training.metrics import read_metrics

BASELINES = ("l1", "random", "scratch")

Say = Callable[[str], None]


class Cell(Record):
    """One method with one seed.

    Attributes:
        run: its run folder.
        top1: accuracy, a fraction.
        macs, params: costs of the compact network.
        epochs, dense_epochs: epochs of the method itself, and of the dense network it started from.
        seconds: training time of all these epochs.
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


class Latency(Record):
    """Latency of a run's two networks in ms at batch 1, and the speed-up with its interval."""

    run: str
    dense_ms: float
    compact_ms: float
    speedup: float
    low: float
    high: float
    verdict: str


class Row(Record):
    """One method over all seeds; top-1 as fractions; the spread is the sample standard deviation."""

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
    latency: Latency | None = None


class Comparison(Record):
    """Result of a comparison, the content of `compare.json`.

    Attributes:
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
    rows: tuple[Row, ...]
    cells: tuple[Cell, ...]
    beaten_by: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    def parts(self) -> list[Table | str]:
        """Return a table with a row for each method, and a line for each method that a baseline beats."""
        table = Table(
            title=f"{self.model} on {self.data}, {self.target}, {self.epochs} epochs, {self.seeds} seeds "
            f"(dense: {self.dense_macs:,} MACs)",
            title_justify="left",
        )
        table.add_column("method")
        for column in ("top-1", "spread", "MACs", "parameters", "epochs", "seconds", "latency", "speed-up"):
            table.add_column(column, justify="right")
        for row in self.rows:
            own = f"{row.dense_epochs} dense + {row.epochs}" if row.dense_epochs else str(row.epochs)
            timed = row.latency
            table.add_row(
                row.method,
                f"{row.top1_mean:.2%}",
                f"± {row.top1_spread:.2%}",
                f"{row.macs:,.0f}",
                f"{row.params:,.0f}",
                own,
                f"{row.seconds:.0f}",
                f"{timed.compact_ms:.3f} ms" if timed else "",
                f"{timed.speedup:.2f}x ({timed.low:.2f} to {timed.high:.2f})" if timed else "",
            )
        lines = (f"{name} is not better than {' and '.join(by)} here" for name, by in self.beaten_by.items())
        return [table, *lines]


def compare(
    methods: Sequence[str],
    model: str,
    data: str,
    target: str,
    *,
    epochs: int,
    seeds: int = 3,
    out: str | Path,
    settings: Mapping[str, Any] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    input_size: tuple[int, int, int] | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    weights: str | None = None,
    reset_head: bool | None = None,
    align: str = "auto",
    latency: bool = True,
    progress: Progress | None = None,
    say: Say = lambda text: None,
) -> Comparison:
    """Train every method with every seed, measure, and write `compare.json` and `compare.png` into `out`.

    Args:
        methods: names of the methods.
        model, data, target: as for training.
        epochs: epochs of each method and seed, including those of its dense network.
        seeds: number of seeds, counted from 0.
        out: folder of the runs.
        settings: settings of every training; defaults of a method (such as the learning rate and optimizer of
            KDFS) take precedence.
        options: options and training settings of single methods, by name.
        input_size, mean, std: as for training.
        weights, reset_head: a dense network to start from, as for training; None: methods that need one train
            it within their epochs.
        align: as for training.
        latency: measure the networks of the first seed in pairs with the dense one.
        progress, say: called with the progress, and with messages.

    Raises:
        CompressError: an unknown method, or any error of a training.
    """
    names = list(dict.fromkeys(methods))
    folder = Path(out)
    if not names or seeds < 1:
        raise CompressError(
            f"a comparison needs methods and seeds, not {len(names)} methods and {seeds} seeds",
            hint="give --methods A,B and --seeds 1 or more",
            code="bad-option",
        )
    for name in names:
        if not METHODS.get_or_raise(name).needs_target:
            raise CompressError(
                f"the method {name!r} does not produce a compact model",
                hint="leave it out",
                code="bad-option",
            )
    requests = [
        _request(
            name,
            seed,
            folder,
            TrainRequest(
                model=model,
                data=data,
                target=target,
                input_size=input_size,
                mean=mean,
                std=std,
                weights=weights,
                reset_head=reset_head,
                align=align,
                settings={**(settings or {}), "epochs": epochs},
                options=dict((options or {}).get(name, {})),
            ),
        )
        for seed in range(seeds)
        for name in names
    ]
    for request in requests:  # report invalid settings before the first training starts
        resolved = resolve(request)
        if needs_dense(resolved):
            dense_epochs(resolved)
    cells = [_train_cell(request, progress, say) for request in requests]
    latencies = {name: _latency(folder / f"{name}-s0", say) if latency else None for name in names}
    info = compact_info(folder / f"{names[0]}-s0")
    rows = tuple(_row(name, [c for c in cells if c.method == name], latencies[name]) for name in names)
    result = Comparison(
        model=model,
        data=data,
        target=target,
        epochs=epochs,
        seeds=seeds,
        dense_macs=info.dense.macs,
        dense_params=info.dense.params,
        rows=rows,
        cells=tuple(cells),
        beaten_by=_beaten(rows),
    )
    write_json(folder / "compare.json", result.model_dump(mode="json"))
    _plot(result, folder / "compare.png")
    return result


def _request(name: str, seed: int, folder: Path, base: TrainRequest) -> TrainRequest:
    from dataclasses import replace

    out = folder / f"{name}-s{seed}"
    shared = {**base.settings, "seed": seed}
    own = {key: value for key, value in base.options.items() if key in TrainConfig.model_fields}
    request = replace(
        base,
        method=name,
        settings={**shared, **METHODS[name].training_defaults, **own},
        options={key: value for key, value in base.options.items() if key not in own},
        dense_settings=shared,
        out=out,
        resume=(out / "run.json").is_file(),
    )
    resolved = resolve(request)
    if not needs_dense(resolved):
        return request
    share = f"dense{dense_epochs(resolved)}-s{seed}"
    return replace(request, dense_out=folder / share)


def _train_cell(request: TrainRequest, progress: Progress | None, say: Say) -> Cell:
    """Train one method with one seed, unless its run is finished, and return its result."""
    assert request.out is not None
    assert isinstance(request.method, str)
    out = Path(request.out)
    if not (out / "compact" / "model.json").is_file():
        say(f"training {out.name}")
        run_training(request, progress=progress, say=say)
    info: CompactInfo = compact_info(out)
    stored = read_json(out / "run.json", what="run record", hint="")
    if (stored["target"], info.model.name, info.data) != (request.target, request.model, request.data):
        raise CompressError(
            f"{str(out)!r} belongs to another comparison: {info.model.name}, {info.data}, {stored['target']}",
            hint="choose another --out",
            code="run-exists",
        )
    spent = int(info.extra.get("dense_epochs", 0))
    seconds = _seconds(out) + (_seconds(Path(request.dense_out)) if request.dense_out and spent else 0.0)
    return Cell(
        method=request.method,
        seed=int(request.settings["seed"]),
        run=str(out),
        top1=float(info.extra["top1"]),
        macs=info.compact.macs,
        params=info.compact.params,
        epochs=int(info.extra["epochs"]),
        dense_epochs=spent,
        seconds=seconds,
    )


def _seconds(run: Path) -> float:
    return sum(float(row["seconds"]) for row in read_metrics(run / "metrics.jsonl"))


def _latency(run: Path, say: Say) -> Latency:
    """Return the latency of a run; it is measured only if there is no result yet."""
    path = run / "bench" / "results.json"
    if path.is_file():
        result = record.read(path)
    else:
        say(f"measuring {run.name}")
        result = bench(run)
    row = summary_row(result)
    return Latency(
        run=run.name,
        dense_ms=row.baseline_ms,
        compact_ms=row.candidate_ms,
        speedup=row.speedup,
        low=row.low,
        high=row.high,
        verdict=str(row.verdict),
    )


def _row(name: str, cells: Sequence[Cell], latency: Latency | None) -> Row:
    top1 = [c.top1 for c in cells]
    return Row(
        method=name,
        seeds=len(cells),
        top1_mean=statistics.fmean(top1),
        top1_spread=statistics.stdev(top1) if len(top1) > 1 else 0.0,
        top1_low=min(top1),
        top1_high=max(top1),
        macs=statistics.fmean(c.macs for c in cells),
        params=statistics.fmean(c.params for c in cells),
        epochs=cells[0].epochs,
        dense_epochs=cells[0].dense_epochs,
        seconds=statistics.fmean(c.seconds for c in cells),
        latency=latency,
    )


def _beaten(rows: Sequence[Row]) -> dict[str, tuple[str, ...]]:
    baselines = [r for r in rows if r.method in BASELINES]
    beaten_by = {
        r.method: tuple(y.method for y in baselines if y.top1_mean >= r.top1_mean)
        for r in rows
        if r.method not in BASELINES
    }
    return {name: by for name, by in beaten_by.items() if by}


def _plot(result: Comparison, path: Path) -> None:
    """Plot the accuracy of every seed over MACs, and the measured latency."""
    from matplotlib.figure import Figure

    timed = [r for r in result.rows if r.latency is not None]
    figure = Figure(figsize=(11 if timed else 6, 4), layout="constrained")
    axes = figure.subplots(1, 2 if timed else 1, squeeze=False)[0]
    for i, row in enumerate(result.rows):
        own = [c for c in result.cells if c.method == row.method]
        color = f"C{i}"
        axes[0].scatter(
            [c.macs / 1e6 for c in own], [100 * c.top1 for c in own], color=color, s=14, alpha=0.5
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
        xlabel="MACs of one image (millions)",
        ylabel="top-1 (%)",
        title=f"{result.model}, {result.data}, {result.target}, {result.epochs} epochs, {result.seeds} seeds",
    )
    axes[0].legend()
    if timed:
        first = timed[0].latency
        assert first is not None
        axes[1].bar(
            ["dense", *(r.method for r in timed)],
            [first.dense_ms, *(r.latency.compact_ms for r in timed if r.latency is not None)],
            color=["grey", *(f"C{result.rows.index(r)}" for r in timed)],
        )
        axes[1].set(ylabel="median latency at batch 1 (ms)", title="measured, first seed")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


__all__ = ["Cell", "Comparison", "Latency", "Row", "compare"]
