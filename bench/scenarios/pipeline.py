"""From artefacts to scenarios: prepare their networks, measure each back end in its own process, gather."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compress import artifact
from compress.bench import artefacts
from compress.bench.artefacts import Subject
from compress.bench.backends import FOLDER, Backend, RunConfig, fitted
from compress.bench.bench_setup import (
    PREPARING,
    Choices,
    check_kinds,
    configured,
    opened,
    part_of,
    place_for,
    sides_of,
    silent,
    usable_backends,
    versions_here,
)
from compress.bench.files import Prepared
from compress.bench.protocol import process
from compress.bench.protocol.machine import cpu_state, default_threads
from compress.bench.protocol.measure import Progress
from compress.bench.scenarios import offline, record, server, stream
from compress.bench.scenarios.measure import Job
from compress.bench.scenarios.options import Options, Scenario
from compress.bench.scenarios.record import FILENAME, Found, ScenarioComparison, ScenarioResult
from compress.core.errors import CompressError

ENGINE_MAX_BATCH = 64
"""Largest batch of the engines that are built for the offline scenario where none is given."""

PROTOCOLS = {
    Scenario.SINGLE_STREAM: stream.PROTOCOL,
    Scenario.OFFLINE: offline.PROTOCOL,
    Scenario.SERVER: server.PROTOCOL,
}


def run_scenarios(
    *named: str | Path,
    options: Options,
    threads: int | None = None,
    backend: str | Sequence[str] = "ort-cpu",
    seed: int = 0,
    choices: Choices | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    command: Sequence[str] | None = None,
) -> ScenarioResult:
    """Measure scenarios of artefacts on one or more back ends; write `bench/scenarios.json` in the first run.

    Args:
        named, threads, backend, choices, progress, command: as for `bench.bench`.
        options: what is measured; its budget is for everything together, and divided evenly.
        seed: of the input, the bootstrap and the arrivals.
        out: file of the result; None takes `bench/scenarios.json` of the first run named, and nothing is
            written where only files are.

    Raises:
        CompressError: as `bench.bench`.
    """
    if threads is not None and threads < 1:
        raise CompressError(
            f"{threads} threads are not possible", hint="give --threads from 1", code="bad-option"
        )
    count = threads or default_threads()
    config = configured(1, count, seed, choices or Choices())
    runtimes = usable_backends(backend, config)
    subjects = artefacts.comparisons(named)
    say = progress or silent
    before = cpu_state()
    with contextlib.ExitStack() as stack:
        runs = opened(stack, subjects)
        check_kinds(subjects, runtimes)
        parts = len(options.scenarios) * len(runtimes) * len(subjects)
        own = options.model_copy(update={"budget_s": options.budget_s and options.budget_s / parts})
        found: list[ScenarioComparison] = []
        for i, runtime in enumerate(runtimes):
            part = part_of(say, i / len(runtimes), 1 / len(runtimes))
            found += _on(runtime, subjects, runs, config, own, part)
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
            comparisons=tuple(found),
        )
        place = place_for(out, runs, FILENAME)
        if place is not None:
            record.save(result, place)
    say("done", 1.0)
    return result


def _on(
    runtime: Backend,
    subjects: Sequence[tuple[Subject, Subject]],
    runs: dict[Path, Prepared],
    config: RunConfig,
    options: Options,
    say: Progress,
) -> list[ScenarioComparison]:
    """Prepare the networks for one back end and measure them in its process."""
    say(f"{runtime.name}: preparing the networks", 0.0)
    options = _fitted(runtime, options)
    files = {path: run.pair(runtime, _sizes(options)) for path, run in runs.items()}
    sides = [sides_of(two, runtime, files) for two in subjects]
    job = Job(
        backend=runtime.name,
        config=fitted(runtime, config),
        comparisons=tuple(sides),
        options=options,
    )
    measured = process.done(
        job, "compress.bench.scenarios.measure", Found, part_of(say, PREPARING, 1 - PREPARING)
    )
    return [
        ScenarioComparison(
            **_fields(entry),
            backend=runtime.name,
            baseline=artefacts.described(two[0], own[0], files.get(two[0].path)),
            candidate=artefacts.described(two[1], own[1], files.get(two[1].path)),
        )
        for two, own, entry in zip(subjects, sides, measured, strict=True)
    ]


def _fields(found: Found) -> dict[str, Any]:
    return {name: getattr(found, name) for name in Found.model_fields}


def _fitted(runtime: Backend, options: Options) -> Options:
    """An engine is built for batches up to a number, so that the sweep needs one."""
    any_size = FOLDER in runtime.reads or ".onnx" in runtime.reads
    if any_size or options.max_batch is not None or Scenario.OFFLINE not in options.scenarios:
        return options
    return options.model_copy(update={"max_batch": ENGINE_MAX_BATCH})


def _sizes(options: Options) -> list[int]:
    """The smallest and the largest batch that is asked for: engines are built for what lies between."""
    swept = options.max_batch if Scenario.OFFLINE in options.scenarios else None
    return [1, max(options.max_server_batch, swept or 1)]
