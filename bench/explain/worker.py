"""Measure one run on one back end; runs in a process of its own, see `compress.bench.protocol.child`."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import replace
from pathlib import Path

from compress.bench.backends import RunConfig, get_profiler, require_backend
from compress.bench.explain.breakdown import LossBreakdown
from compress.bench.explain.microbenchmarks import LayerSpec, LayerTiming, alternative_widths, time_layers
from compress.bench.explain.overhead import measure_overhead
from compress.bench.explain.paired_profile import profile_in_pairs
from compress.bench.explain.record import LossAnalysis
from compress.bench.explain.roofline import measure_roofline
from compress.bench.protocol.worker import Progress, Side
from compress.core.spec import Record

__all__ = ["Job", "run_job"]


class Job(Record):
    """Input of one measuring process.

    Attributes:
        backend: name of the back end.
        config: settings of the sessions.
        dense, compact: files that the back end loads.
        dense_onnx, compact_onnx: the same networks as ONNX files.
        blocks: number of measured blocks.
    """

    backend: str
    config: RunConfig
    dense: Side
    compact: Side
    dense_onnx: Path
    compact_onnx: Path
    blocks: int


def run_job(job: Job, say: Progress) -> tuple[LossAnalysis]:
    """Profile both networks, time single layers, and attribute the lost time to causes.

    Returns:
        A tuple of one record, since every measuring process returns a tuple.

    Raises:
        CompressError: the back end has no profiler or cannot run here, or a network cannot be loaded.
    """
    runtime, profiler = require_backend(job.backend, job.config), get_profiler(job.backend)
    configs = [
        replace(job.config, network=side.network, sha256=side.sha256) for side in (job.dense, job.compact)
    ]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="explain-")))
        say("measuring the overhead of a node", 0.0)
        overhead = measure_overhead(profiler, job.config, folder)
        say("measuring the roofline", 0.05)
        on_gpu = job.backend.startswith("trt") or job.config.device == "cuda"
        roofline = measure_roofline(profiler, job.config, overhead.correction, folder, on_gpu=on_gpu)
        say("loading", 0.1)
        loads = (job.dense, configs[0]), (job.dense, configs[0]), (job.compact, configs[1])
        dense, again, compact = (runtime.load(side.path, config) for side, config in loads)
        for runner in (dense, again, compact):
            stack.callback(runner.close)
        sessions = (profiler.open(job.dense.path, configs[0]), profiler.open(job.compact.path, configs[1]))
        profile = profile_in_pairs(
            (dense, again, compact), sessions, job.blocks, lambda done: say("profiling", 0.12 + 0.5 * done)
        )
        breakdown = LossBreakdown(
            job.dense_onnx, job.compact_onnx, job.config.batch, profile, overhead, roofline
        )
        layers = breakdown.layers_to_time()
        timings: dict[str, dict[str, LayerTiming]] = {}
        cache: dict[tuple[LayerSpec, LayerSpec], dict[str, LayerTiming]] = {}
        for i, (name, pair) in enumerate(layers.items()):
            say(f"timing {name} alone", 0.65 + 0.35 * i / len(layers))
            if pair not in cache:
                specs = alternative_widths(*pair)
                cache[pair] = time_layers(profiler, specs, job.config, overhead.correction, folder)
            timings[name] = cache[pair]
        return (
            breakdown.analysis(
                timings,
                session=dense.settings,
                timed=runtime.describe_timing(job.config),
                source=profiler.source,
            ),
        )
