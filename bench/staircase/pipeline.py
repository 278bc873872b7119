"""Measure the latency of a run's layers over their width; write the table and its figure."""

from __future__ import annotations

import logging
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from compress import artifact
from compress.artifact import RunFolder
from compress.bench.backends import RunConfig, require_backend, supported_config
from compress.bench.bench_setup import BackendOptions, no_progress, versions_here
from compress.bench.protocol import process
from compress.bench.protocol.machine import default_threads
from compress.bench.protocol.worker import Progress
from compress.bench.staircase import plot, table_file
from compress.bench.staircase.layer_selection import group_by_shape, select_layers
from compress.bench.staircase.width_grid import width_grid
from compress.bench.staircase.worker import CurveResult, CurveSpec, Job
from compress.core.errors import CompressError
from compress.core.files import read_json, write_bytes
from compress.cost import LatencyTable, LayerShape, ShapedLayer, shaped_layers
from compress.cost.latency import Entry
from compress.graph import trace

CURVE_S = 6.0
"""Seconds for the rounds of each curve if no budget is given."""

START_S = 4.0
"""Estimated time to start the measuring process, seconds."""

FIGURE_S = 0.3
"""Time of the budget reserved to draw each curve of the figure, seconds."""

PROTOCOL = (
    "each layer shape is measured as a network of its own, in one process; after a warm-up every width is "
    "timed once per round in random order, and the full width several times per round; a measurement is the "
    "lower quartile of at least four inferences after an untimed lead-in; a ratio is the lower quartile of "
    "the rounds over that of the full width, since interruptions only add time, with a 95% bootstrap "
    "interval over the rounds; the noise floor is the reach of the interval of a second session of the full "
    "width"
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StaircaseResult:
    """Result of `measure_staircase`.

    Attributes:
        table: the table, including layers of an earlier measurement with the same settings.
        measured: the entries of this measurement.
        path: the written table (JSON).
        figure: the written figure (PNG).
        not_measured: curves that did not fit into the budget, as layer name and axis.
    """

    table: LatencyTable
    measured: tuple[Entry, ...]
    path: Path
    figure: Path
    not_measured: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """Return the measured layers with their best widths, one line per curve."""
        lines = [
            f"{entry.layers[0]}, {curve.axis}: best widths {', '.join(map(str, curve.edges))}"
            for entry in self.measured
            for curve in entry.curves
        ]
        return "\n".join([f"{self.table.network} on {self.table.backend}, {self.path}", *lines])

    def _repr_png_(self) -> bytes:
        """Return the figure, for notebooks."""
        return self.figure.read_bytes()

    def to_json(self) -> dict[str, Any]:
        """Return the result as a JSON object."""
        return {
            "table": str(self.path),
            "figure": str(self.figure),
            "measured": [list(entry.layers) for entry in self.measured],
            "not_measured": [list(curve) for curve in self.not_measured],
            "result": self.table.model_dump(mode="json"),
        }


def measure_staircase(
    run: str | Path,
    layers: str = "all",
    *,
    backend: str = "ort-cpu",
    threads: int | None = None,
    batch: int = 1,
    widths: Sequence[int] | None = None,
    budget_s: float | None = None,
    seed: int = 0,
    choices: BackendOptions | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    announce: Callable[[str], None] | None = None,
    command: Sequence[str] | None = None,
) -> StaircaseResult:
    """Measure the latency of a run's layers over their width; write a table and its figure.

    Every distinct layer shape of the dense network is measured once, along its outputs and its inputs
    (depthwise convolutions along both together), with the other axis at full width.

    Args:
        run: a run folder with a compact model.
        layers: names or patterns, comma-separated, or ``all``.
        backend: name of one back end.
        threads: intra-op threads; None: the physical cores available to this process.
        batch: images of an inference.
        widths: widths to measure besides the full one; None: see
            `compress.bench.staircase.width_grid.width_grid`.
        budget_s: seconds for the whole call. The shapes with the most MACs are measured first; curves that do
            not fit are left out, except the first one. None: `CURVE_S` per curve.
        seed: seed of the weights, the input and the order.
        choices: device, layout and other settings, see `compress.bench.bench_setup.BackendOptions`.
        out: file of the table; None: `bench/latency-BACKEND-DEVICE.json` of the run. Layers that are not
            measured now are kept if the table has the same settings.
        progress: called with a message and the share that is done.
        announce: called before the measurement with the amount of work and its estimated duration.
        command: command line to record; None: that of this process.

    Raises:
        CompressError: the run or its compact model is missing, a layer is unknown or its width cannot be
            reduced, or a value is out of range (USAGE, MISSING); the back end cannot run here, or cannot run
            such a layer.
    """
    started = time.time()
    config = _config(run, backend, threads, batch, budget_s, out, seed, choices or BackendOptions())
    runtime = require_backend(backend, config)
    with RunFolder.open(Path(run), write=True) as folder:
        network, all_layers = _traced_layers(folder)
        shapes = group_by_shape(select_layers(all_layers, layers), all_layers)
        curves = _curve_specs(shapes, widths)
        if announce is not None:
            announce(_announcement(curves, shapes, config, budget_s))
        deadline = None if budget_s is None else started + budget_s - FIGURE_S * len(curves)
        with tempfile.TemporaryDirectory(prefix="compress-staircase-") as temporary:
            job = Job(
                backend=runtime.name,
                config=supported_config(runtime, config),
                curves=tuple(curves),
                curve_s=CURVE_S,
                deadline=deadline,
                folder=Path(temporary),
            )
            results = process.run_in_process(
                job, "compress.bench.staircase.worker", CurveResult, progress or no_progress
            )
        measured = _entries(shapes, curves, results)
        table = _table(network, config, runtime.name, results, measured, command)
        path = Path(out) if out is not None else folder.bench / table_filename(table)
        table = table_file.merge_with_file(table, path)
        figure = path.with_name(f"staircase-{table.backend}.png")
        png = plot.render_png(table)  # before any file is written
        table_file.save_table(table, path)
        write_bytes(figure, png)
    done = {result.index for result in results}
    left_out = tuple((shapes[c.shape][0].name, c.axis) for i, c in enumerate(curves) if i not in done)
    if left_out:
        names = ",".join(dict.fromkeys(name for name, _ in left_out))
        _log.warning(
            "the budget of %g s was enough for %d of %d curves; measure the others with --staircase '%s', "
            "or give a larger --budget",
            budget_s,
            len(done),
            len(curves),
            names,
        )
    return StaircaseResult(table, measured, path, figure, left_out)


def table_filename(table: LatencyTable) -> str:
    """Return the file name of a table, from its back end and device."""
    slug = re.sub(r"[^a-z0-9]+", "-", table.device.lower()).strip("-")
    return f"latency-{table.backend}-{slug or 'unknown'}.json"


def _announcement(
    curves: Sequence[CurveSpec],
    shapes: dict[LayerShape, list[ShapedLayer]],
    config: RunConfig,
    budget_s: float | None,
) -> str:
    """Return the amount of work and its estimated duration."""
    networks = sum(len(curve.widths) + 1 for curve in curves)
    if budget_s is None:
        total = sum(max(CURVE_S, curve.min_seconds(config)) for curve in curves) + START_S
    else:
        total = max(budget_s, curves[0].min_seconds(config) + START_S)
    layers = sum(len(same) for same in shapes.values())
    duration = f"{total / 60:.0f} minutes" if total > 100 else f"{total:.0f} seconds"
    return (
        f"{_count(layers, 'layer')} of {_count(len(shapes), 'shape')}: {_count(len(curves), 'curve')} over "
        f"{networks} networks, about {duration}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _config(
    run: str | Path,
    backend: str,
    threads: int | None,
    batch: int,
    budget_s: float | None,
    out: str | Path | None,
    seed: int,
    choices: BackendOptions,
) -> RunConfig:
    """Check the options and return the settings of the sessions."""
    problem = None
    if Path(run).is_file():
        problem = (
            f"--staircase needs a run folder; {str(run)!r} is a file",
            "give the run folder that the file was exported from",
        )
    elif "," in backend:
        problem = f"--staircase takes one back end, not {backend!r}", "give one --backend"
    elif batch < 1:
        problem = f"the batch size must be at least 1, not {batch}", "give --batch 1 or more"
    elif threads is not None and threads < 1:
        problem = f"the number of threads must be at least 1, not {threads}", "give --threads 1 or more"
    elif budget_s is not None and budget_s <= 0:
        problem = f"the budget must be above 0 seconds, not {budget_s:g}", "give --budget a number above 0"
    elif choices.device not in ("cpu", "cuda"):
        problem = f"unknown device {choices.device!r}", "known: cpu, cuda"
    elif out is not None and Path(out).suffix != ".json":
        problem = f"the table cannot be written to {str(out)!r}", "give --out a file ending in .json"
    if problem is not None:
        raise CompressError(problem[0], hint=problem[1], code="bad-option")
    return replace(RunConfig(batch, threads or default_threads(), seed), **vars(choices))


def _traced_layers(run: RunFolder) -> tuple[str, list[ShapedLayer]]:
    """Return the name of a run's dense network, and its layers."""
    info = artifact.compact_info(run)
    plan = read_json(run.compact / "plan.json", what="slicing plan")
    image = torch.zeros(2, *info.model.input_size)
    graph = trace(artifact.build_dense(run), image, free_pads=bool(plan.get("free_pads", False)))
    return info.model.name, shaped_layers(graph)


def _curve_specs(
    shapes: dict[LayerShape, list[ShapedLayer]], widths: Sequence[int] | None
) -> list[CurveSpec]:
    """Return the curves of every shape, those with the most MACs in the network first."""
    curves, errors = list[CurveSpec](), list[CompressError]()
    for shape, layers in shapes.items():
        axes = dict.fromkeys(axis for layer in layers for axis in layer.axes)
        for axis in axes:
            try:
                grid = width_grid(shape, axis, widths)
            except CompressError as error:
                errors.append(error)
            else:
                curves.append(CurveSpec(shape=shape, axis=axis, widths=grid, layers=len(layers)))
    if not curves:
        raise errors[0]
    return sorted(curves, key=lambda curve: -curve.shape.macs * curve.layers)


def _entries(
    shapes: dict[LayerShape, list[ShapedLayer]], curves: Sequence[CurveSpec], results: Sequence[CurveResult]
) -> tuple[Entry, ...]:
    by_shape = {
        shape: tuple(result.curve for result in results if curves[result.index].shape == shape)
        for shape in shapes
    }
    return tuple(
        Entry(shape=shape, layers=tuple(layer.name for layer in layers), curves=by_shape[shape])
        for shape, layers in shapes.items()
        if by_shape[shape]
    )


def _table(
    network: str,
    config: RunConfig,
    backend: str,
    results: Sequence[CurveResult],
    entries: tuple[Entry, ...],
    command: Sequence[str] | None,
) -> LatencyTable:
    machine, session = artifact.this_machine(), results[0].session
    return LatencyTable(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=tuple(sys.argv if command is None else command),
        network=network,
        backend=backend,
        device=session.get("gpu", machine.cpu),
        threads=config.threads,
        batch=config.batch,
        timed=results[0].timed,
        protocol=PROTOCOL,
        session=session,
        machine=machine,
        versions=versions_here() | {"torch": str(torch.__version__)},
        others_load=max(result.others_load for result in results),
        entries=entries,
    )
