"""From artefacts to a result: prepare their networks, measure each back end in its own process, gather."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from bench import artefacts, paired, process, record
from bench.artefacts import Subject
from bench.files import Pair, Prepared
from bench.machine import cpu_state, default_threads
from bench.measure import Job, Progress, Side
from bench.record import FILENAME, BenchResult, ComparisonRecord
from bench.runners import Backend, RunConfig, backends, fitted, usable
from bench.runners.registry import CHOICES
from compress import artifact, nvml
from compress.artifact import RunFolder
from compress.errors import CompressError
from export.manifest import versions

PREPARING = 0.05
"""Share of the progress that preparing takes."""

PACKAGES = (
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-rtx",
    "numpy",
    "scipy",
)

PROTOCOL = (
    "each back end in a process of its own; baseline and candidate alternate in ABBA blocks after a warm-up, "
    "each begun when the other's threads are at rest and after an untimed lead-in; each pair is the ratio of "
    "two medians of repeated inferences of about 20 ms; median of the log-ratios with a 95% bootstrap "
    "interval; the floor is the reach of the same interval of the baseline against a second session of itself"
)


@dataclass(frozen=True)
class Choices:
    """What may be chosen about a session, for the back ends that have it; see `bench.runners.RunConfig`."""

    device: str = "cpu"
    channels_last: bool = False
    cuda_graph: bool = False
    transfers: bool = False
    trust: bool = False


def bench(
    *named: str | Path,
    batches: Sequence[int] = (1,),
    threads: int | None = None,
    pairs: int = paired.PAIRS,
    budget_s: float | None = None,
    backend: str | Sequence[str] = "ort-cpu",
    seed: int = 0,
    choices: Choices | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    command: Sequence[str] | None = None,
) -> BenchResult:
    """Measure artefacts in pairs on one or more back ends, and write `bench/results.json` in the first run.

    Args:
        named: run folders and exported files; `bench.artefacts` says which is compared with which. A run
            alone is its compact network against its dense one.
        batches: batch sizes, each compared by itself.
        threads: intra-op threads; None takes the physical cores this process may use.
        pairs: how many pairs of each comparison, from 10.
        budget_s: seconds for all comparisons together instead of a number of pairs (warm-up and loading
            beside it); at least 10 pairs of each are measured in any case.
        backend: names of back ends, one string with commas between or several.
        seed: of the input and of the bootstrap.
        choices: device, layout, CUDA graph and the like.
        out: file of the result; None takes `bench/results.json` of the first run named, and nothing is
            written where only files are.
        progress: told about the progress.
        command: the command line for the record; None takes this process's.

    Raises:
        CompressError: an impossible option or unknown back end (USAGE), no compact model, a back end that
            cannot run here or a silent fallback of the runtime (MISSING), a network that cannot be exported
            or a process that died (BUILD).
    """
    sizes, count = _checked(batches, threads, pairs, budget_s)
    configs = tuple(_config(size, count, seed, choices or Choices()) for size in sizes)
    runtimes = _usable(backend, configs[0])
    subjects = artefacts.comparisons(named)
    say = progress or _silent
    before = cpu_state()
    with contextlib.ExitStack() as stack:
        runs = _opened(stack, subjects)
        _check_kinds(subjects, runtimes)
        share = None if budget_s is None else budget_s / (len(sizes) * len(runtimes) * len(subjects))
        found: list[ComparisonRecord] = []
        for i, runtime in enumerate(runtimes):
            part = _part(say, i / len(runtimes), 1 / len(runtimes))
            found += _on(runtime, subjects, runs, configs, pairs, share, part)
        result = BenchResult(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            command=tuple(sys.argv if command is None else command),
            artefacts=tuple(Path(name).resolve().name for name in named),
            protocol=PROTOCOL,
            threads=count,
            seed=seed,
            machine=artifact.this_machine(),
            before=before,
            after=cpu_state(),
            versions=_versions(),
            comparisons=tuple(found),
        )
        place = Path(out) if out is not None else next((r.run.bench / FILENAME for r in runs.values()), None)
        if place is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
            record.save(result, place)
    say("done", 1.0)
    return result


def _on(
    runtime: Backend,
    subjects: Sequence[tuple[Subject, Subject]],
    runs: dict[Path, Prepared],
    configs: tuple[RunConfig, ...],
    pairs: int,
    budget_s: float | None,
    say: Progress,
) -> list[ComparisonRecord]:
    """Prepare the networks for one back end and measure them in its process."""
    say(f"{runtime.name}: preparing the networks", 0.0)
    sizes = [config.batch for config in configs]
    files = {path: run.pair(runtime, sizes) for path, run in runs.items()}
    sides = [_sides(two, runtime, files) for two in subjects]
    job = Job(
        backend=runtime.name,
        configs=tuple(fitted(runtime, config) for config in configs),
        comparisons=tuple(sides),
        pairs=pairs,
        budget_s=budget_s,
    )
    measured = process.measured(job, _part(say, PREPARING, 1 - PREPARING))
    return [
        ComparisonRecord(
            backend=runtime.name,
            timed=entry.timed,
            session=entry.session,
            energy=entry.energy,
            baseline=artefacts.described(two[0], own[0], files.get(two[0].path)),
            candidate=artefacts.described(two[1], own[1], files.get(two[1].path)),
            batches=entry.batches,
        )
        for two, own, entry in zip(subjects, sides, measured, strict=True)
    ]


def _sides(two: tuple[Subject, Subject], runtime: Backend, files: dict[Path, Pair]) -> tuple[Side, Side]:
    first, second = (artefacts.side(subject, runtime, files.get(subject.path)) for subject in two)
    return first, second


def _opened(stack: contextlib.ExitStack, subjects: Sequence[tuple[Subject, Subject]]) -> dict[Path, Prepared]:
    """Open every run once, for writing; one without a compact model is refused."""
    paths = dict.fromkeys(subject.path for two in subjects for subject in two if subject.is_run)
    return {path: Prepared(stack.enter_context(RunFolder.open(path, write=True))) for path in paths}


def _check_kinds(subjects: Sequence[tuple[Subject, Subject]], runtimes: Sequence[Backend]) -> None:
    """Refuse a file that one of the back ends does not read, before anything is measured."""
    for runtime in runtimes:
        for two in subjects:
            for subject in two:
                if not subject.is_run:
                    artefacts.side(subject, runtime, None)


def _usable(backend: str | Sequence[str], config: RunConfig) -> list[Backend]:
    """Return the back ends; refuse one that cannot run here, and a choice that none of them has."""
    names = backend.split(",") if isinstance(backend, str) else list(backend)
    if not all(names):
        raise CompressError(
            f"{backend!r} names no back end", hint="such as ort-cpu or ort-cpu,openvino", code="bad-option"
        )
    plain = RunConfig(config.batch, config.threads)
    for choice in CHOICES:
        _require_honoured(choice, getattr(config, choice) != getattr(plain, choice), names)
    return [usable(name, config) for name in dict.fromkeys(names)]


def _require_honoured(choice: str, chosen: bool, names: Sequence[str]) -> None:
    known = backends()
    having = [name for name, found in known.items() if choice in found.honours]
    if chosen and not set(names) & set(having) and set(names) <= set(known):
        raise CompressError(
            f"none of the back ends {', '.join(names)} has a choice of {choice.replace('_', ' ')}",
            hint=f"leave --{choice.replace('_', '-')} out; the back ends that have it: {', '.join(having)}",
            code="bad-option",
        )


def _config(size: int, threads: int, seed: int, choices: Choices) -> RunConfig:
    if choices.device not in ("cpu", "cuda"):
        raise CompressError(
            f"unknown device {choices.device!r}", hint="known: cpu, cuda", code="unknown-device"
        )
    return replace(RunConfig(size, threads, seed), **vars(choices))


def _checked(
    batches: Sequence[int], threads: int | None, pairs: int, budget_s: float | None
) -> tuple[list[int], int]:
    """Refuse impossible options; return the batch sizes without repetition, and the threads."""
    problem = None
    if not batches or min(batches) < 1:
        problem = f"batch sizes {list(batches)} are not possible", "give --batch one or more numbers from 1"
    elif threads is not None and threads < 1:
        problem = f"{threads} threads are not possible", "give --threads from 1"
    elif pairs < paired.MIN_PAIRS:
        problem = f"{pairs} pairs are too few to judge on", f"give --pairs from {paired.MIN_PAIRS}"
    elif budget_s is not None and budget_s <= 0:
        problem = f"a budget of {budget_s:g} seconds is not possible", "give --budget more than 0"
    if problem is not None:
        raise CompressError(problem[0], hint=problem[1], code="bad-option")
    return list(dict.fromkeys(batches)), threads or default_threads()


def _versions() -> dict[str, str]:
    """Versions of the packages, and of the driver of a GPU."""
    driver = nvml.driver()
    return versions(PACKAGES) | ({} if driver is None else {"nvidia-driver": driver.version})


def _part(say: Progress, start: float, length: float) -> Progress:
    return lambda what, done: say(what, start + length * done)


def _silent(what: str, done: float) -> None:
    pass
