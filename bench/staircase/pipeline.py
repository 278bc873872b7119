"""From a run to a latency table and its figure."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from compress import artifact
from compress.artifact import RunFolder
from compress.bench.backends import RunConfig, fitted, usable
from compress.bench.bench_setup import Choices, silent, versions_here
from compress.bench.protocol import process
from compress.bench.protocol.machine import default_threads
from compress.bench.protocol.measure import Progress
from compress.bench.staircase import merge, plot
from compress.bench.staircase.choose import by_shape, choose
from compress.bench.staircase.grid import widths
from compress.bench.staircase.measure import CurveFound, CurveJob, Job
from compress.bench.staircase.rounds import BETWEEN, LEAD_IN_NS, MEASURE_NS, MIN_INFERENCES, MIN_ROUNDS
from compress.core.errors import CompressError
from compress.core.files import read_json
from compress.cost import LatencyTable, LayerShape, ShapedLayer, shaped_layers
from compress.cost.latency import Entry
from compress.graph import trace

CURVE_S = 6.0
"""Seconds of the rounds of each curve where no budget is given."""

LOADING_S = 0.2
"""About how long a layer takes to be made, loaded and warmed up."""

MACS_PER_S = 2e10
"""What a core does at least; for the estimate of the whole time only."""

PROTOCOL = (
    "each layer shape as a network of its own, in one process; after a warm-up every width is timed once a "
    "round in a new random order, the full width several times in between, each after an untimed lead-in by "
    "the lower quartile of at least four inferences; the lower quartile of the rounds over that of the full "
    "width, as an interruption only ever adds; 95% bootstrap interval over the rounds; the floor is the "
    "reach of the interval of the full width against a second session of itself"
)


@dataclass(frozen=True)
class Staircase:
    """What was measured, and where it is.

    Attributes:
        table: with what an earlier table of the same session had.
        measured: the entries of now.
        path, figure: the table and the picture (PNG).
    """

    table: LatencyTable
    measured: tuple[Entry, ...]
    path: Path
    figure: Path

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "table": str(self.path),
            "figure": str(self.figure),
            "measured": [list(entry.layers) for entry in self.measured],
            "result": self.table.model_dump(mode="json"),
        }


def staircase(
    run: str | Path,
    layers: str = "all",
    *,
    backend: str = "ort-cpu",
    threads: int | None = None,
    batch: int = 1,
    asked: Sequence[int] | None = None,
    budget_s: float | None = None,
    seed: int = 0,
    choices: Choices | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
    command: Sequence[str] | None = None,
) -> Staircase:
    """Measure the latency of a run's layers against their width, and write a table and its figure.

    Every distinct shape of the dense network's layers is measured once, along its outputs and its inputs
    (a depthwise convolution along both at once), the other side at its full width.

    Args:
        run: a run folder with a compact network.
        layers: names or patterns with commas between, or ``all``.
        backend: name of one back end.
        threads: intra-op threads; None takes the physical cores this process may use.
        batch: images of an inference.
        asked: widths to measure besides the full one; None takes `compress.bench.staircase.grid.widths`.
        budget_s: seconds of all rounds together; at least `MIN_ROUNDS` rounds are measured of each curve.
        seed: of the weights' input and the order.
        choices: device, layout and the like; see `compress.bench.bench_setup.Choices`.
        out: the table; None takes `bench/latency-BACKEND-DEVICE.json` of the run. A table of the same
            session keeps the layers that are not measured now.
        progress: told the progress. tell: told beforehand what is measured and about how long it takes.
        command: the command line for the record; None takes this process's.

    Raises:
        CompressError: no run, no compact network, an unknown layer or one without a width, an impossible
            option (USAGE, MISSING); a back end that cannot run here, or not such a layer.
    """
    config = _config(run, backend, threads, batch, budget_s, out, seed, choices or Choices())
    runtime = usable(backend, config)
    with RunFolder.open(Path(run), write=True) as folder:
        network, every = _layers(folder)
        shapes = by_shape(choose(every, layers), every)
        curves = _curves(shapes, asked)
        share = CURVE_S if budget_s is None else budget_s / len(curves)
        if tell is not None:
            tell(said_beforehand(curves, shapes, config, share))
        with tempfile.TemporaryDirectory(prefix="compress-staircase-") as temporary:
            job = Job(
                backend=runtime.name,
                config=fitted(runtime, config),
                curves=tuple(curves),
                budget_s=share,
                folder=Path(temporary),
            )
            found = process.done(job, "compress.bench.staircase.measure", CurveFound, progress or silent)
        measured = _entries(shapes, curves, found)
        table = _table(network, config, runtime.name, found, measured, command)
        path = Path(out) if out is not None else folder.bench / filename(table)
        table = merge.onto(path, table)
        figure = path.with_name(f"staircase-{table.backend}.png")
        drawn = plot.png(table)  # both are made before one is written
        merge.save(table, path)
        plot.save(drawn, figure)
    return Staircase(table, measured, path, figure)


def filename(table: LatencyTable) -> str:
    """Name of a table's file."""
    slug = re.sub(r"[^a-z0-9]+", "-", table.device.lower()).strip("-")
    return f"latency-{table.backend}-{slug or 'unknown'}.json"


def said_beforehand(
    curves: Sequence[CurveJob],
    shapes: dict[LayerShape, list[ShapedLayer]],
    config: RunConfig,
    share_s: float,
) -> str:
    """Say how much is measured, and about how long it takes."""
    networks = sum(len(curve.widths) + 1 for curve in curves)
    rounds_s = sum(max(share_s, _least_s(curve, config)) for curve in curves)
    total = rounds_s + LOADING_S * networks + 5
    layers = sum(len(same) for same in shapes.values())
    return (
        f"{_many(layers, 'layer')} of {_many(len(shapes), 'shape')}: {_many(len(curves), 'curve')} over "
        f"{networks} networks, about {f'{total / 60:.0f} minutes' if total > 100 else f'{total:.0f} seconds'}"
    )


def _least_s(curve: CurveJob, config: RunConfig) -> float:
    """About how long the fewest rounds of a curve take."""
    inference_s = curve.shape.macs * config.batch / (MACS_PER_S * config.threads) * 0.5
    visit_s = max(MIN_INFERENCES * inference_s, MEASURE_NS / 1e9) + max(inference_s, LEAD_IN_NS / 1e9)
    return MIN_ROUNDS * len(curve.widths) * (1 + 1 / BETWEEN) * visit_s


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _config(
    run: str | Path,
    backend: str,
    threads: int | None,
    batch: int,
    budget_s: float | None,
    out: str | Path | None,
    seed: int,
    choices: Choices,
) -> RunConfig:
    """Refuse impossible options."""
    problem = None
    if Path(run).is_file():
        problem = (
            f"a staircase is measured of a run's layers; {str(run)!r} is a file",
            "name the run folder that the file was exported from",
        )
    elif "," in backend:
        problem = f"a staircase is measured on one back end, not on {backend!r}", "give one --backend"
    elif batch < 1:
        problem = f"a batch of {batch} is not possible", "give --batch from 1"
    elif threads is not None and threads < 1:
        problem = f"{threads} threads are not possible", "give --threads from 1"
    elif budget_s is not None and budget_s <= 0:
        problem = f"a budget of {budget_s:g} seconds is not possible", "give --budget more than 0"
    elif choices.device not in ("cpu", "cuda"):
        problem = f"unknown device {choices.device!r}", "known: cpu, cuda"
    elif out is not None and Path(out).suffix != ".json":
        problem = f"the table cannot be written to {str(out)!r}", "give --out a file ending in .json"
    if problem is not None:
        raise CompressError(problem[0], hint=problem[1], code="bad-option")
    return replace(RunConfig(batch, threads or default_threads(), seed), **vars(choices))


def _layers(run: RunFolder) -> tuple[str, list[ShapedLayer]]:
    """Name of a run's dense network, and its layers."""
    info = artifact.compact_info(run)
    plan = read_json(run.compact / "plan.json", what="slicing plan")
    image = torch.zeros(2, *info.model.input_size)
    graph = trace(artifact.build_dense(run), image, free_pads=bool(plan.get("free_pads", False)))
    return info.model.name, shaped_layers(graph)


def _curves(shapes: dict[LayerShape, list[ShapedLayer]], asked: Sequence[int] | None) -> list[CurveJob]:
    """The curves of every shape; of the widths asked for those the layer can have."""
    found, refused = list[CurveJob](), list[CompressError]()
    for shape, layers in shapes.items():
        axes = dict.fromkeys(axis for layer in layers for axis in layer.axes)
        for axis in axes:
            try:
                found.append(CurveJob(shape=shape, axis=axis, widths=widths(shape, axis, asked)))
            except CompressError as error:
                refused.append(error)
    if not found:
        raise refused[0]
    return found


def _entries(
    shapes: dict[LayerShape, list[ShapedLayer]], curves: Sequence[CurveJob], found: Sequence[CurveFound]
) -> tuple[Entry, ...]:
    done = list(zip(curves, found, strict=True))
    own = {shape: tuple(made.curve for job, made in done if job.shape == shape) for shape in shapes}
    return tuple(
        Entry(shape=shape, layers=tuple(layer.name for layer in layers), curves=own[shape])
        for shape, layers in shapes.items()
        if own[shape]
    )


def _table(
    network: str,
    config: RunConfig,
    backend: str,
    found: Sequence[CurveFound],
    entries: tuple[Entry, ...],
    command: Sequence[str] | None,
) -> LatencyTable:
    machine, session = artifact.this_machine(), found[0].session
    return LatencyTable(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=tuple(sys.argv if command is None else command),
        network=network,
        backend=backend,
        device=session.get("gpu", machine.cpu),
        threads=config.threads,
        batch=config.batch,
        timed=found[0].timed,
        protocol=PROTOCOL,
        session=session,
        machine=machine,
        versions=versions_here() | {"torch": str(torch.__version__)},
        others_load=max(curve.others_load for curve in found),
        entries=entries,
    )
