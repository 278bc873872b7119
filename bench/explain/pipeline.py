"""Explain the speed of a run: prepare both networks, measure in a separate process, write the result."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from compress import artifact
from compress.artifact import RunFolder
from compress.bench.artifacts import Subject, side
from compress.bench.backends import Backend, RunConfig, get_profiler, require_backend, supported_config
from compress.bench.bench_setup import (
    PREPARING,
    BackendOptions,
    no_progress,
    run_config,
    subprogress,
    versions_here,
)
from compress.bench.explain import record
from compress.bench.explain.record import Explanation, LossAnalysis
from compress.bench.explain.worker import Job
from compress.bench.files import Prepared
from compress.bench.protocol import process
from compress.bench.protocol.machine import cpu_state, default_threads
from compress.bench.protocol.paired import MIN_PAIRS, PAIRS
from compress.bench.protocol.worker import Progress
from compress.core.errors import CompressError


def explain(
    *named: str | Path,
    batch: int = 1,
    threads: int | None = None,
    blocks: int = PAIRS,
    backend: str | Sequence[str] = "ort-cpu",
    seed: int = 0,
    choices: BackendOptions | None = None,
    progress: Progress | None = None,
    command: Sequence[str] | None = None,
) -> tuple[Explanation, ...]:
    """Explain layer by layer why a compact network is, or is not, as much faster as its MAC reduction.

    The result of each back end is written to `bench/explain-BACKEND.json` of the run.

    Args:
        named: one run folder.
        batch: images of an inference.
        threads: intra-op threads; None: the physical cores available to this process.
        blocks: number of alternating measurements of both networks, with and without the profiler; at
            least 10.
        backend: names of back ends, as one comma-separated string or a sequence.
        seed: seed of the input.
        choices: device and layout, for back ends that support them.
        progress: called with a message and the share that is done.
        command: command line to record; None: that of this process.

    Returns:
        One explanation per back end. Display it with `compress.bench.explain.render_explanation`.

    Raises:
        CompressError: a value is out of range, a file was given instead of a run, or a back end has no
            profiler (USAGE); the run has no compact model or a back end cannot run here (MISSING); a
            network cannot be exported or the measuring process died (BUILD).
    """
    run = _single_run(named)
    config = _config(batch, threads, blocks, seed, choices or BackendOptions())
    names = backend.split(",") if isinstance(backend, str) else list(backend)
    runtimes = []
    for name in dict.fromkeys(names):
        runtime = require_backend(name, config)
        get_profiler(name)
        runtimes.append(runtime)
    say = progress or no_progress
    with RunFolder.open(run, write=True) as folder:
        prepared = Prepared(folder)
        explanations = []
        for i, runtime in enumerate(runtimes):
            part = subprogress(say, i / len(runtimes), 1 / len(runtimes))
            explanation = _explain_on(
                runtime, prepared, supported_config(runtime, config), blocks, part, command
            )
            record.save(explanation, folder.bench / record.filename(runtime.name))
            explanations.append(explanation)
    say("done", 1.0)
    return tuple(explanations)


def _explain_on(
    runtime: Backend,
    prepared: Prepared,
    config: RunConfig,
    blocks: int,
    say: Progress,
    command: Sequence[str] | None,
) -> Explanation:
    say(f"{runtime.name}: preparing the networks", 0.0)
    before, run, info = cpu_state(), prepared.run, prepared.info
    pair = prepared.pair(runtime, [config.batch])
    subjects = [Subject(name, run.path, name) for name in ("dense", "compact")]
    job = Job(
        backend=runtime.name,
        config=config,
        dense=side(subjects[0], runtime, pair),
        compact=side(subjects[1], runtime, pair),
        dense_onnx=prepared.onnx.dense,
        compact_onnx=prepared.onnx.compact,
        blocks=blocks,
    )
    measuring = subprogress(say, PREPARING, 1 - PREPARING)
    (analysis,) = process.run_in_process(
        job,
        "compress.bench.explain.worker",
        LossAnalysis,
        lambda what, done: measuring(f"{runtime.name}: {what}", done),
    )
    return Explanation(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=tuple(sys.argv if command is None else command),
        run=run.path.name,
        model=info.model.name,
        method=info.method,
        backend=runtime.name,
        batch=config.batch,
        threads=config.threads,
        machine=artifact.this_machine(),
        before=before,
        after=cpu_state(),
        versions=versions_here(),
        **dict(analysis),
    )


def _single_run(named: Sequence[str | Path]) -> Path:
    paths = [Path(name) for name in named]
    hint = "give one run folder, such as `compress bench runs/a --explain`"
    if len(paths) != 1:
        given = ", ".join(repr(str(path)) for path in paths) or "none"
        raise CompressError(f"--explain takes exactly one run; given: {given}", hint=hint, code="bad-option")
    if paths[0].is_file():
        raise CompressError(
            f"--explain needs a run folder, which holds the dense network to compare with; "
            f"{str(paths[0])!r} is a file",
            hint=hint,
            code="wrong-kind",
            details={"path": str(paths[0])},
        )
    return paths[0]


def _config(batch: int, threads: int | None, blocks: int, seed: int, choices: BackendOptions) -> RunConfig:
    problem = None
    if batch < 1:
        problem = f"the batch size must be at least 1, not {batch}", "give --batch 1 or more"
    elif threads is not None and threads < 1:
        problem = f"the number of threads must be at least 1, not {threads}", "give --threads 1 or more"
    elif blocks < MIN_PAIRS:
        problem = (
            f"{blocks} pairs are too few for a verdict; the minimum is {MIN_PAIRS}",
            f"give --pairs {MIN_PAIRS} or more",
        )
    elif choices.cuda_graph:
        problem = "layers in a CUDA graph cannot be timed separately", "remove --cuda-graph"
    if problem is not None:
        raise CompressError(problem[0], hint=problem[1], code="bad-option")
    return run_config(batch, threads or default_threads(), seed, choices)
