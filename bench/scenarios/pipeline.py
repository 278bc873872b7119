"""Measure scenarios: prepare the networks, measure each back end in its own process, write the result."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from compress import artifact
from compress.bench import artifacts
from compress.bench.artifacts import Subject
from compress.bench.backends import FOLDER, Backend, RunConfig, supported_config
from compress.bench.bench_setup import (
    PREPARING,
    BackendOptions,
    load_sides,
    no_progress,
    open_runs,
    require_readable,
    result_path,
    run_config,
    subprogress,
    usable_backends,
    versions_here,
)
from compress.bench.files import Prepared
from compress.bench.protocol import process
from compress.bench.protocol.machine import cpu_state, default_threads
from compress.bench.protocol.worker import Progress
from compress.bench.scenarios import offline, record, server, single_stream
from compress.bench.scenarios.options import Options, Scenario
from compress.bench.scenarios.record import (
    FILENAME,
    ScenarioComparison,
    ScenarioMeasurements,
    ScenarioResult,
)
from compress.bench.scenarios.worker import Job
from compress.core.errors import CompressError

ENGINE_MAX_BATCH = 64
"""Default largest batch of engines that are built for the offline scenario."""

PROTOCOLS = {
    Scenario.SINGLE_STREAM: single_stream.PROTOCOL,
    Scenario.OFFLINE: offline.PROTOCOL,
    Scenario.SERVER: server.PROTOCOL,
}


def run_scenarios(
    *named: str | Path,
    options: Options,
    threads: int | None = None,
    backend: str | Sequence[str] = "ort-cpu",
    seed: int = 0,
    choices: BackendOptions | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    command: Sequence[str] | None = None,
) -> ScenarioResult:
    """Measure scenarios of artifacts on one or more back ends; write `bench/scenarios.json` of the first run.

    Args:
        named, threads, backend, choices, progress, command: as for `compress.bench.bench`.
        options: scenarios and their options, see `compress.bench.scenarios.make_options`; the budget covers
            all measurements together and is divided evenly.
        seed: seed of the input, the bootstrap and the arrivals.
        out: file of the result; None: `bench/scenarios.json` of the first run, and no file if only exported
            files are given.

    Returns:
        The result. Display it with `compress.bench.scenarios.render_scenarios`.

    Raises:
        CompressError: as for `compress.bench.bench`.
    """
    if threads is not None and threads < 1:
        raise CompressError(
            f"the number of threads must be at least 1, not {threads}",
            hint="give --threads 1 or more",
            code="bad-option",
        )
    count = threads or default_threads()
    config = run_config(1, count, seed, choices or BackendOptions())
    runtimes = usable_backends(backend, config)
    subjects = artifacts.comparisons(named)
    say = progress or no_progress
    before = cpu_state()
    with contextlib.ExitStack() as stack:
        runs = open_runs(stack, subjects)
        require_readable(subjects, runtimes)
        parts = len(options.scenarios) * len(runtimes) * len(subjects)
        own = options.model_copy(update={"budget_s": options.budget_s and options.budget_s / parts})
        compared: list[ScenarioComparison] = []
        for i, runtime in enumerate(runtimes):
            part = subprogress(say, i / len(runtimes), 1 / len(runtimes))
            compared += _measure_on(runtime, subjects, runs, config, own, part)
        result = ScenarioResult(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            command=tuple(sys.argv if command is None else command),
            artefacts=tuple(Path(name).resolve().name for name in named),
            options=options,
            protocol={str(scenario): PROTOCOLS[scenario] for scenario in options.scenarios},
            threads=count,
            seed=seed,
            machine=artifact.this_machine(),
            before=before,
            after=cpu_state(),
            versions=versions_here(),
            comparisons=tuple(compared),
        )
        place = result_path(out, runs, FILENAME)
        if place is not None:
            record.save(result, place)
    say("done", 1.0)
    return result


def _measure_on(
    runtime: Backend,
    subjects: Sequence[tuple[Subject, Subject]],
    runs: dict[Path, Prepared],
    config: RunConfig,
    options: Options,
    say: Progress,
) -> list[ScenarioComparison]:
    """Prepare the networks for one back end and measure them in its process."""
    say(f"{runtime.name}: preparing the networks", 0.0)
    options = _options_for(runtime, options)
    files = {path: run.pair(runtime, _engine_batches(options)) for path, run in runs.items()}
    sides = [load_sides(pair, runtime, files) for pair in subjects]
    job = Job(
        backend=runtime.name,
        config=supported_config(runtime, config),
        comparisons=tuple(sides),
        options=options,
    )
    measured = process.run_in_process(
        job,
        "compress.bench.scenarios.worker",
        ScenarioMeasurements,
        subprogress(say, PREPARING, 1 - PREPARING),
    )
    return [
        ScenarioComparison(
            **dict(entry),
            backend=runtime.name,
            baseline=artifacts.artifact_record(pair[0], own[0], files.get(pair[0].path)),
            candidate=artifacts.artifact_record(pair[1], own[1], files.get(pair[1].path)),
        )
        for pair, own, entry in zip(subjects, sides, measured, strict=True)
    ]


def _options_for(runtime: Backend, options: Options) -> Options:
    """Set a largest batch for back ends whose engines are built for a range of batch sizes."""
    any_size = FOLDER in runtime.reads or ".onnx" in runtime.reads
    if any_size or options.max_batch is not None or Scenario.OFFLINE not in options.scenarios:
        return options
    return options.model_copy(update={"max_batch": ENGINE_MAX_BATCH})


def _engine_batches(options: Options) -> list[int]:
    """Return the smallest and the largest batch, the range that engines are built for."""
    offline_batch = options.max_batch if Scenario.OFFLINE in options.scenarios else None
    return [1, max(options.max_server_batch, offline_batch or 1)]
