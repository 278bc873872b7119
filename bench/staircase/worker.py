"""Measure the curves of a staircase on one back end; runs in a process of its own."""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path

import psutil

from compress.bench.backends import Backend, RunConfig, Runner, require_backend
from compress.bench.protocol.machine import OthersLoad
from compress.bench.protocol.worker import Progress
from compress.bench.staircase.layer_models import image_size
from compress.bench.staircase.layer_runner import load_layer
from compress.bench.staircase.rounds import (
    LEAD_IN_NS,
    MEASURE_NS,
    MIN_INFERENCES,
    MIN_ROUNDS,
    REFERENCE_EVERY,
    WARM_UP_NS,
    RoundTimes,
    measure_rounds,
    warm_up,
    width_ratios,
)
from compress.core.errors import CompressError, Exit
from compress.core.spec import Record
from compress.cost import LayerShape
from compress.cost.latency import Curve, Point
from compress.cost.shapes import Axis

MEMORY_SHARE = 0.5
"""Largest share of the free memory that the sessions of a curve may use."""

LOAD_S = WARM_UP_NS / 1e9 + 0.04
"""Estimated time to create, load and warm up a layer, seconds."""

MACS_PER_S = 2e10
"""Lower bound on the speed of a core; used only to estimate the duration."""


class CurveSpec(Record):
    """A layer shape and the widths to measure along one axis; the last one is the full width.

    Attributes:
        layers: number of layers of the network with this shape.
    """

    shape: LayerShape
    axis: Axis
    widths: tuple[int, ...]
    layers: int = 1

    def min_seconds(self, config: RunConfig) -> float:
        """Return the estimated duration of loading all widths and measuring the fewest rounds."""
        inference_s = self.shape.macs * config.batch / (MACS_PER_S * config.threads) * 0.5
        measurement_s = max(MIN_INFERENCES * inference_s, MEASURE_NS / 1e9)
        measurement_s += max(inference_s, LEAD_IN_NS / 1e9)
        measurements = MIN_ROUNDS * len(self.widths) * (1 + 1 / REFERENCE_EVERY)
        return measurements * measurement_s + LOAD_S * (len(self.widths) + 1)


class Job(Record):
    """Input of one measuring process.

    Attributes:
        backend: name of the back end.
        config: settings of the sessions.
        curves: curves to measure, in this order.
        curve_s: seconds for the rounds of each curve, if there is no deadline.
        deadline: Unix time by which the process should end; curves that do not fit before it are left out,
            except the first.
        folder: folder for temporary files.
    """

    backend: str
    config: RunConfig
    curves: tuple[CurveSpec, ...]
    curve_s: float
    deadline: float | None = None
    folder: Path


class CurveResult(Record):
    """A measured curve.

    Attributes:
        index: index in the job's curves.
        curve: the curve.
        timed, session, others_load: see `compress.cost.LatencyTable`.
    """

    index: int
    curve: Curve
    timed: str
    session: dict[str, str]
    others_load: float


def run_job(job: Job, say: Progress) -> tuple[CurveResult, ...]:
    """Measure the curves in order; with a deadline, only those that fit before it.

    Raises:
        CompressError: the back end cannot run here or cannot run such a layer, or memory is too small.
    """
    runtime = require_backend(job.backend, job.config)
    for spec in job.curves:
        _check_memory(spec, job.config)
    layer_text = "the network is the layer, its activation and a mean of its output"
    timed = f"{runtime.describe_timing(job.config)}; {layer_text}"
    results = list[CurveResult]()
    estimates = [spec.min_seconds(job.config) for spec in job.curves]
    slowness = 1.0
    for i, spec in enumerate(job.curves):
        start, budget_s = time.time(), math.inf
        if job.deadline is not None:
            remaining = job.deadline - start
            if results and estimates[i] * slowness > remaining:
                continue
            budget_s = remaining * estimates[i] / sum(estimates[i:])
        part = _subprogress(say, f"{job.backend}: {spec.shape}, {spec.axis}", i, len(job.curves))
        others = OthersLoad()
        with contextlib.ExitStack() as stack:
            curve, session, loading_s = _measure_curve(runtime, job, spec, budget_s, part, stack)
        load = others.share()
        results.append(CurveResult(index=i, curve=curve, timed=timed, session=session, others_load=load))
        fewest_s = loading_s + (time.time() - start - loading_s) * MIN_ROUNDS / curve.rounds
        slowness = max(0.5, fewest_s / estimates[i])
    return tuple(results)


def _measure_curve(
    runtime: Backend, job: Job, spec: CurveSpec, budget_s: float, say: Progress, stack: contextlib.ExitStack
) -> tuple[Curve, dict[str, str], float]:
    """Load every width, and the full width twice, and measure them in rounds.

    Returns:
        The curve, the settings of the session, and the seconds spent on loading.
    """
    start = time.monotonic()

    def load(width: int) -> Runner:
        runner = load_layer(runtime, spec.shape.at(spec.axis, width), job.config, job.folder)
        stack.callback(runner.close)
        return runner

    say("loading", 0.0)
    reference = load(spec.widths[-1])
    warm_up(reference, until_stable=True)
    runners, typical = dict[int, Runner](), dict[int, float]()
    for i, width in enumerate(spec.widths):
        runners[width] = load(width)
        typical[width] = warm_up(runners[width])
        say("loading", 0.3 * (i + 1) / len(spec.widths))
    loading_s = time.monotonic() - start
    own_threads = reference.device_ns is None and job.config.threads > 1
    times = measure_rounds(
        runners,
        reference,
        typical,
        budget_s=job.curve_s if math.isinf(budget_s) else max(0.0, budget_s - loading_s),
        rest=own_threads,
        seed=job.config.seed,
        report=lambda done: say("rounds", 0.3 + 0.7 * done),
    )
    return curve_from_rounds(spec.axis, spec.widths, times), reference.settings, loading_s


def curve_from_rounds(axis: Axis, widths: tuple[int, ...], times: RoundTimes) -> Curve:
    """Return the ratios of the rounds with their intervals and the noise floor as a curve."""
    ratios = width_ratios(times)
    return Curve(
        axis=axis,
        full_ms=ratios.full_ns / 1e6,
        points=tuple(
            Point(width=width, ratio=float(value), low=float(low), high=float(high))
            for width, value, low, high in zip(widths, ratios.value, ratios.low, ratios.high, strict=True)
        ),
        rounds=len(times.widths_ns),
        floor=max(-math.log(ratios.low[-1]), math.log(ratios.high[-1]), 0.0),
        clock="device" if times.by_device else "host",
    )


def _check_memory(spec: CurveSpec, config: RunConfig) -> None:
    """Refuse a curve whose sessions do not fit into memory together."""
    needed = sum(_session_bytes(spec.shape.at(spec.axis, width), config.batch) for width in spec.widths)
    free = psutil.virtual_memory().available
    if needed > MEMORY_SHARE * free:
        raise CompressError(
            f"{len(spec.widths)} widths of {spec.shape} at batch {config.batch} need about "
            f"{needed / 2**30:.1f} GiB; {free / 2**30:.1f} GiB are free",
            hint="give a smaller --batch, or fewer widths with --staircase-widths",
            code="out-of-memory",
            exit=Exit.BUILD,
        )


def _session_bytes(shape: LayerShape, batch: int) -> int:
    """Return the estimated memory of a layer's session: twice the weights, input and output."""
    weights = shape.out_channels * shape.in_channels // shape.groups * math.prod(shape.kernel)
    outputs = shape.out_channels * (
        math.prod(shape.output_size) if shape.kind == "conv" else shape.height * shape.width
    )
    return 4 * (2 * weights + batch * (math.prod(image_size(shape)) + outputs))


def _subprogress(say: Progress, name: str, i: int, of: int) -> Progress:
    return lambda what, done: say(f"{name}: {what}", (i + done) / of)
