"""From a run folder to `bench/results.json`: dense against compact, at each batch size."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench import paired, record, stats
from bench.files import Pair, onnx_pair
from bench.machine import OthersLoad, cpu_state, default_threads
from bench.memory import Memory, peak_memory
from bench.paired import Comparison, WarmUp
from bench.record import ArtefactRecord, BatchRecord, BenchResult, SideRecord
from bench.runners import Backend, RunConfig, Runner, backend_named
from compress import artifact
from compress.artifact import CompactInfo, RunFolder
from compress.errors import CompressError
from compress.files import sha256_file
from export.manifest import versions

Progress = Callable[[str, float], None]
"""Called with what is being done, and the share of the whole that is done, 0 to 1."""

FLOOR_SHARE = 0.4
"""Share of a budget that goes into the A/A comparison."""

PROTOCOL = (
    "dense and compact alternate in ABBA blocks after a warm-up, each begun when the other's threads are at "
    "rest and after an untimed lead-in; each pair is the ratio of two medians of repeated inferences of "
    "about 20 ms; median of the log-ratios with a 95% bootstrap interval; the floor is the reach of the same "
    "interval of dense against a second session of dense"
)


def bench(
    run: str | Path,
    *,
    batches: Sequence[int] = (1,),
    threads: int | None = None,
    pairs: int = paired.PAIRS,
    budget_s: float | None = None,
    backend: str = "ort-cpu",
    seed: int = 0,
    progress: Progress | None = None,
    command: Sequence[str] | None = None,
) -> BenchResult:
    """Measure a run's compact network against its dense one, and write `bench/results.json` in the run.

    Args:
        run: the run folder.
        batches: batch sizes, each compared by itself.
        threads: intra-op threads; None takes the physical cores this process may use.
        pairs: how many pairs of each comparison, from 10.
        budget_s: seconds for all comparisons together instead of a number of pairs (A/A and warm-up and
            loading beside it); at least 10 pairs are measured in any case.
        backend: name of the back end.
        seed: of the input and of the bootstrap.
        progress: told about the progress.
        command: the command line for the record; None takes this process's.

    Raises:
        CompressError: an impossible option or unknown back end (USAGE), no compact model or a silent
            fallback of the runtime (MISSING), a network that cannot be exported (BUILD).
    """
    runtime = backend_named(backend)
    sizes, count = _checked(batches, threads, pairs, budget_s)
    say = progress or _silent
    before = cpu_state()
    with RunFolder.open(run, write=True) as folder:
        info = artifact.compact_info(folder)
        say("exporting the dense and the compact network", 0.0)
        files = onnx_pair(folder, info)
        share = None if budget_s is None else budget_s / len(sizes)
        measured = []
        for i, size in enumerate(sizes):
            config = RunConfig(size, count, seed)
            part = _part(say, f"batch {size}", i / len(sizes), 1 / len(sizes))
            measured.append(_measure(runtime, files, info, config, pairs, share, part))
        result = BenchResult(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            command=tuple(sys.argv if command is None else command),
            run=folder.path.name,
            model=info.model.name,
            method=info.method,
            backend=backend,
            timed=runtime.timed,
            protocol=PROTOCOL,
            session=runtime.options(RunConfig(sizes[0], count, seed)),
            threads=count,
            seed=seed,
            machine=artifact.this_machine(),
            before=before,
            after=cpu_state(),
            versions=versions(("onnx", "onnxruntime", "onnxruntime-gpu", "numpy", "scipy")),
            dense=_artefact("dense", files.dense, files.opset, info),
            compact=_artefact("compact", files.compact, files.opset, info),
            batches=tuple(measured),
        )
        record.save(result, folder.bench)
    say("done", 1.0)
    return result


def _measure(
    runtime: Backend,
    files: Pair,
    info: CompactInfo,
    config: RunConfig,
    pairs: int,
    budget_s: float | None,
    say: Progress,
) -> BatchRecord:
    """Compare at one batch size: load, warm up, A/A, A/B, memory."""
    first, second = _split(budget_s)
    with contextlib.ExitStack() as stack:
        dense, again, compact = (
            _loaded(stack, runtime, path, config) for path in (files.dense, files.dense, files.compact)
        )
        say("warming up", 0.0)
        warm = [paired.warm_up(runner) for runner in (dense, again, compact)]
        others = OthersLoad()
        typical = [state.typical_ns for state in warm]
        same = paired.compare(
            dense,
            again,
            typical_ns=(typical[0], typical[1]),
            pairs=pairs,
            budget_s=first,
            seed=config.seed,
            report=lambda done: say("dense against itself", 0.1 + 0.35 * done),
        )
        other = paired.compare(
            dense,
            compact,
            typical_ns=(typical[0], typical[2]),
            pairs=pairs,
            budget_s=second,
            seed=config.seed,
            report=lambda done: say("dense against compact", 0.45 + 0.45 * done),
        )
        load = others.share()
        loads = dense.load_ns, compact.load_ns
    say("measuring memory", 0.9)
    memory = [peak_memory(path, config.batch, config.threads) for path in (files.dense, files.compact)]
    sides = _sides(other, (warm[0], warm[2]), loads, memory, config.batch)
    return _batch_record(config.batch, sides, same, other, info, load)


def _sides(
    found: Comparison,
    warm: tuple[WarmUp, WarmUp],
    loads: tuple[int, int],
    memory: Sequence[Memory],
    batch: int,
) -> tuple[SideRecord, SideRecord]:
    def side(i: int, label: str, times: NDArray[np.int64]) -> SideRecord:
        return record.side_record(
            label,
            warm[i],
            stats.latency(times),
            load_ns=loads[i],
            batch=batch,
            repeats=found.repeats[i],
            peak_bytes=memory[i].peak,
            added_bytes=memory[i].added,
        )

    return side(0, "dense", found.a_ns), side(1, "compact", found.b_ns)


def _batch_record(
    batch: int,
    sides: tuple[SideRecord, SideRecord],
    same: Comparison,
    other: Comparison,
    info: CompactInfo,
    load: float,
) -> BatchRecord:
    floor = record.noise_floor(same)
    speedup = record.ratio_record(other.ratio)
    reduction = info.dense.macs / max(info.compact.macs, 1)
    return BatchRecord(
        batch=batch,
        dense=sides[0],
        compact=sides[1],
        noise=record.ratio_record(same.ratio),
        floor=floor,
        speedup=speedup,
        verdict=stats.verdict(other.ratio, floor),
        mac_reduction=reduction,
        efficiency=speedup.ratio / reduction,
        others_load=load,
    )


def _loaded(stack: contextlib.ExitStack, runtime: Backend, path: Path, config: RunConfig) -> Runner:
    runner = runtime.load(path, config)
    stack.callback(runner.close)
    return runner


def _artefact(label: str, path: Path, opset: int, info: CompactInfo) -> ArtefactRecord:
    costs = info.dense if label == "dense" else info.compact
    top1 = info.extra.get("top1") if label == "compact" else None
    return ArtefactRecord(
        label=label,
        file=path.name,
        sha256=sha256_file(path),
        bytes=path.stat().st_size,
        opset=opset,
        weights="fresh, norms settled on noise" if label == "dense" else "the run's",
        macs=costs.macs,
        params=costs.params,
        top1=top1 if isinstance(top1, float) else None,
    )


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


def _split(budget_s: float | None) -> tuple[float | None, float | None]:
    """Divide a budget between the A/A comparison and the one that matters."""
    return (None, None) if budget_s is None else (budget_s * FLOOR_SHARE, budget_s * (1 - FLOOR_SHARE))


def _part(say: Progress, name: str, start: float, length: float) -> Progress:
    return lambda what, done: say(f"{name}: {what}", start + length * done)


def _silent(what: str, done: float) -> None:
    pass
