"""From a run folder to its explanation: prepare both networks, measure in a process, write what was found."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from compress import artifact
from compress.artifact import RunFolder
from compress.bench.artefacts import Subject, side
from compress.bench.backends import Backend, RunConfig, fitted, usable
from compress.bench.bench_setup import PREPARING, Choices, configured, part_of, silent, versions_here
from compress.bench.explain import record
from compress.bench.explain.job import Found, Job
from compress.bench.explain.profilers import profiler_for
from compress.bench.explain.record import Explanation
from compress.bench.files import Prepared
from compress.bench.protocol import process
from compress.bench.protocol.machine import cpu_state, default_threads
from compress.bench.protocol.measure import Progress
from compress.bench.protocol.paired import MIN_PAIRS, PAIRS
from compress.core.errors import CompressError


def explain(
    *named: str | Path,
    batch: int = 1,
    threads: int | None = None,
    blocks: int = PAIRS,
    backend: str | Sequence[str] = "ort-cpu",
    seed: int = 0,
    choices: Choices | None = None,
    progress: Progress | None = None,
    command: Sequence[str] | None = None,
) -> tuple[Explanation, ...]:
    """Explain layer by layer why a run's compact network is, or is not, as much faster as its MACs promise.

    Each back end's result is written to `bench/explain-BACKEND.json` of the run.

    Args:
        named: one run folder.
        batch: images of an inference.
        threads: intra-op threads; None takes the physical cores this process may use.
        blocks: how often dense and compact are measured in turns, with and without the profiler; from 10.
        backend: names of back ends, one string with commas between or several.
        seed: of the input.
        choices: device and layout, for the back ends that have them.
        progress: told about the progress.
        command: the command line for the record; None takes this process's.

    Raises:
        CompressError: an impossible option, a file instead of a run, or a back end without a profiler
            (USAGE), no compact model or a back end that cannot run here (MISSING), a network that cannot be
            exported or a process that died (BUILD).
    """
    run = _the_run(named)
    config = _config(batch, threads, blocks, seed, choices or Choices())
    names = backend.split(",") if isinstance(backend, str) else list(backend)
    runtimes = []
    for name in dict.fromkeys(names):
        runtime = usable(name, config)
        profiler_for(name)
        runtimes.append(runtime)
    say = progress or silent
    with RunFolder.open(run, write=True) as folder:
        prepared = Prepared(folder)
        found = []
        for i, runtime in enumerate(runtimes):
            part = part_of(say, i / len(runtimes), 1 / len(runtimes))
            made = _on(runtime, prepared, fitted(runtime, config), blocks, part, command)
            record.save(made, folder.bench / record.filename(runtime.name))
            found.append(made)
    say("done", 1.0)
    return tuple(found)


def _on(
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
    named = part_of(say, PREPARING, 1 - PREPARING)
    (found,) = process.done(
        job,
        "compress.bench.explain.measure",
        Found,
        lambda what, done: named(f"{runtime.name}: {what}", done),
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
        **dict(found),
    )


def _the_run(named: Sequence[str | Path]) -> Path:
    """The one run folder that is named."""
    paths = [Path(name) for name in named]
    hint = "name one run folder, such as `compress bench runs/a --explain`"
    if len(paths) != 1:
        what = ", ".join(repr(str(path)) for path in paths) or "nothing"
        raise CompressError(f"--explain looks at one run, not at {what}", hint=hint, code="bad-option")
    if paths[0].is_file():
        raise CompressError(
            f"the file {str(paths[0])!r} belongs to no dense network that it could be explained against",
            hint=hint,
            code="wrong-kind",
            details={"path": str(paths[0])},
        )
    return paths[0]


def _config(batch: int, threads: int | None, blocks: int, seed: int, choices: Choices) -> RunConfig:
    problem = None
    if batch < 1:
        problem = f"a batch of {batch} is not possible", "give --batch from 1"
    elif threads is not None and threads < 1:
        problem = f"{threads} threads are not possible", "give --threads from 1"
    elif blocks < MIN_PAIRS:
        problem = f"{blocks} pairs are too few to judge on", f"give --pairs from {MIN_PAIRS}"
    elif choices.cuda_graph:
        problem = "a CUDA graph has no times of its layers", "leave --cuda-graph out"
    if problem is not None:
        raise CompressError(problem[0], hint=problem[1], code="bad-option")
    return configured(batch, threads or default_threads(), seed, choices)
