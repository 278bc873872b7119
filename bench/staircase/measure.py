"""Measuring the curves of a staircase on one back end. It runs in a process of its own."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import psutil

from compress.bench.backends import Backend, RunConfig, Runner, usable
from compress.bench.protocol.machine import OthersLoad
from compress.bench.protocol.measure import Progress
from compress.bench.staircase.load import load
from compress.bench.staircase.networks import image_size
from compress.bench.staircase.rounds import Rounds, ratios, rounds, warm_up
from compress.core.errors import CompressError, Exit
from compress.core.spec import Record
from compress.cost import LayerShape
from compress.cost.latency import Curve, Point
from compress.cost.shapes import Axis

MEMORY_SHARE = 0.5
"""Most of the free memory that the sessions of a curve may take."""


class CurveJob(Record):
    """One side of one layer shape, at some widths; the last one is the full width."""

    shape: LayerShape
    axis: Axis
    widths: tuple[int, ...]


class Job(Record):
    """What one process measures.

    Attributes:
        budget_s: seconds of the rounds of each curve.
        folder: for files that are written, loaded and removed.
    """

    backend: str
    config: RunConfig
    curves: tuple[CurveJob, ...]
    budget_s: float
    folder: Path


class CurveFound(Record):
    """A curve; the rest as in `compress.cost.LatencyTable`."""

    curve: Curve
    timed: str
    session: dict[str, str]
    others_load: float


def measure(job: Job, say: Progress) -> tuple[CurveFound, ...]:
    """Measure every curve, in their order.

    Raises:
        CompressError: the back end cannot run here, or not such a layer; or the memory is too small.
    """
    runtime = usable(job.backend, job.config)
    for curve in job.curves:
        _check_memory(curve, job.config)
    timed = f"{runtime.timed(job.config)}; the network is the layer, its activation and a mean of its output"
    found = []
    for i, curve in enumerate(job.curves):
        part = _part(say, f"{job.backend}: {curve.shape}, {curve.axis}", i, len(job.curves))
        others = OthersLoad()
        with contextlib.ExitStack() as stack:
            made, session = _curve(runtime, job, curve, part, stack)
        found.append(CurveFound(curve=made, timed=timed, session=session, others_load=others.share()))
    return tuple(found)


def _curve(
    runtime: Backend, job: Job, curve: CurveJob, say: Progress, stack: contextlib.ExitStack
) -> tuple[Curve, dict[str, str]]:
    """Load every width and the full one twice, and measure them in rounds."""

    def loaded(width: int) -> Runner:
        runner = load(runtime, curve.shape.at(curve.axis, width), job.config, job.folder)
        stack.callback(runner.close)
        return runner

    say("loading", 0.0)
    reference = loaded(curve.widths[-1])
    warm_up(reference)
    runners, typical = dict[int, Runner](), dict[int, float]()
    for i, width in enumerate(curve.widths):
        runners[width] = loaded(width)
        typical[width] = warm_up(runners[width]).typical_ns
        say("loading", 0.3 * (i + 1) / len(curve.widths))
    own_threads = reference.device_ns is None and job.config.threads > 1
    found = rounds(
        runners,
        reference,
        typical,
        budget_s=job.budget_s,
        rest=own_threads,
        seed=job.config.seed,
        report=lambda done: say("rounds", 0.3 + 0.7 * done),
    )
    return summary(curve.axis, curve.widths, found), reference.settings


def summary(axis: Axis, widths: tuple[int, ...], found: Rounds) -> Curve:
    """Return the ratios of the rounds with their intervals, and the noise floor."""
    over = ratios(found)
    return Curve(
        axis=axis,
        full_ms=over.full_ns / 1e6,
        points=tuple(
            Point(width=width, ratio=float(value), low=float(low), high=float(high))
            for width, value, low, high in zip(widths, over.value, over.low, over.high, strict=True)
        ),
        rounds=len(found.widths_ns),
        floor=max(-math.log(over.low[-1]), math.log(over.high[-1]), 0.0),
        clock="device" if found.by_device else "host",
    )


def _check_memory(curve: CurveJob, config: RunConfig) -> None:
    """Refuse a curve whose sessions together would fill the memory."""
    needed = sum(_bytes(curve.shape.at(curve.axis, width), config.batch) for width in curve.widths)
    free = psutil.virtual_memory().available
    if needed > MEMORY_SHARE * free:
        raise CompressError(
            f"{len(curve.widths)} widths of {curve.shape} at batch {config.batch} need about "
            f"{needed / 2**30:.1f} GiB of {free / 2**30:.1f} GiB that are free",
            hint="give a smaller --batch, or fewer widths with --staircase-widths",
            code="out-of-memory",
            exit=Exit.BUILD,
        )


def _bytes(shape: LayerShape, batch: int) -> int:
    """About what a session of a layer takes: weights twice, input, output."""
    weights = shape.out_channels * shape.in_channels // shape.groups * math.prod(shape.kernel)
    outputs = shape.out_channels * (
        math.prod(shape.output_size) if shape.kind == "conv" else shape.height * shape.width
    )
    return 4 * (2 * weights + batch * (math.prod(image_size(shape)) + outputs))


def _part(say: Progress, name: str, i: int, of: int) -> Progress:
    return lambda what, done: say(f"{name}: {what}", (i + done) / of)
