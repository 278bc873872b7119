"""From artifacts to a result: prepare their networks, measure in several sessions, each a process, gather."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from compress import artifact
from compress.bench import artifacts
from compress.bench.artifacts import Subject
from compress.bench.backends import Backend, RunConfig, supported_config
from compress.bench.bench_setup import (
    PREPARING,
    BackendOptions,
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
from compress.bench.protocol import paired, process
from compress.bench.protocol.machine import cpu_state, default_threads
from compress.bench.protocol.measure import Job, Measured, Progress
from compress.bench.protocol.sessions import SESSIONS, together
from compress.bench.protocol.stats import RANKED_FROM
from compress.bench.results import record
from compress.bench.results.record import FILENAME, BenchResult, ComparisonRecord
from compress.core.errors import CompressError

PROTOCOL = (
    "each back end in processes of its own, one for each of {sessions}, which load everything anew in "
    "another order; baseline and candidate alternate in ABBA blocks after a warm-up, each begun when the "
    "other's threads are at rest and after an untimed lead-in; each pair is the ratio of two medians of "
    "repeated inferences of about 20 ms; {interval}; the floor is the reach of the same interval of the "
    "baseline against a second one of itself in the same process"
)

INTERVALS = {
    "one": "median of the log-ratios with a 95% bootstrap interval over the pairs",
    "few": "median of the sessions' median log-ratios with a 95% t-interval over the sessions",
    "many": "median of the sessions' median log-ratios with a 95% interval of their ranks",
}
"""What the interval is for one session, for fewer than `compress.bench.protocol.stats.RANKED_FROM`, and from there on."""


def bench(
    *named: str | Path,
    batches: Sequence[int] = (1,),
    threads: int | None = None,
    pairs: int = paired.PAIRS,
    budget_s: float | None = None,
    sessions: int | None = None,
    backend: str | Sequence[str] = "ort-cpu",
    seed: int = 0,
    choices: BackendOptions | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    command: Sequence[str] | None = None,
) -> BenchResult:
    """Measure artifacts in pairs on one or more back ends, and write `bench/results.json` in the first run.

    Args:
        named: run folders and exported files; `compress.bench.artifacts` says which is compared with which. A run
            alone is its compact network against its dense one.
        batches: batch sizes, each compared by itself.
        threads: intra-op threads; None takes the physical cores this process may use.
        pairs: how many pairs of each comparison, from 10, in all sessions together; each session takes the
            same whole number of blocks of two.
        budget_s: seconds for all comparisons in all sessions together instead of a number of pairs (warm-up
            and loading beside it); at least 10 pairs of each are measured in any case.
        sessions: processes that measure each comparison one after the other, each with memory and threads of
            its own; None takes `compress.bench.protocol.sessions.SESSIONS`, or fewer where there are not two pairs for each.
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
    sizes, count, times = _checked(batches, threads, pairs, budget_s, sessions)
    configs = tuple(configured(size, count, seed, choices or BackendOptions()) for size in sizes)
    runtimes = usable_backends(backend, configs[0])
    subjects = artifacts.comparisons(named)
    say = progress or silent
    before = cpu_state()
    with contextlib.ExitStack() as stack:
        runs = opened(stack, subjects)
        check_kinds(subjects, runtimes)
        parts = [_Part(runtime, subjects, runs) for runtime in runtimes]
        for i, part in enumerate(parts):
            part.prepare(configs, part_of(say, PREPARING * i / len(parts), PREPARING / len(parts)))
        plan = _Plan(pairs, budget_s, times, len(sizes) * len(parts) * len(subjects))
        _measure(parts, plan, part_of(say, PREPARING, 1 - PREPARING))
        found = [record for part in parts for record in part.records(seed)]
        result = BenchResult(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            command=tuple(sys.argv if command is None else command),
            artefacts=tuple(Path(name).resolve().name for name in named),
            protocol=_protocol(times),
            threads=count,
            sessions=times,
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


@dataclass(frozen=True)
class _Plan:
    """How much is measured: see the arguments of `bench`; `comparisons` share the budget."""

    pairs: int
    budget_s: float | None
    sessions: int
    comparisons: int

    def of(self, job: Job, session: int) -> Job:
        """Return the job with one session's share of pairs or budget."""
        share = None if self.budget_s is None else self.budget_s / (self.comparisons * self.sessions)
        return job.model_copy(
            update={
                "pairs": self._blocks(self.pairs),
                "budget_s": share,
                "at_least": self._blocks(paired.MIN_PAIRS),
                "session": session,
                "sessions": self.sessions,
            }
        )

    def _blocks(self, pairs: int) -> int:
        blocks = math.ceil(pairs / self.sessions / paired.BLOCK_PAIRS)
        return blocks * paired.BLOCK_PAIRS


class _Part:
    """What is measured on one back end, and what its sessions found."""

    def __init__(
        self,
        runtime: Backend,
        subjects: Sequence[tuple[Subject, Subject]],
        runs: dict[Path, Prepared],
    ) -> None:
        self.runtime, self.subjects, self._runs = runtime, subjects, runs
        self.taken = list[tuple[Measured, ...]]()

    def prepare(self, configs: tuple[RunConfig, ...], say: Progress) -> None:
        """Make the networks in the form that the back end loads."""
        say(f"{self.runtime.name}: preparing the networks", 0.0)
        sizes = [config.batch for config in configs]
        self._files = {path: run.pair(self.runtime, sizes) for path, run in self._runs.items()}
        self._sides = [sides_of(two, self.runtime, self._files) for two in self.subjects]
        self.job = Job(
            backend=self.runtime.name,
            configs=tuple(supported_config(self.runtime, config) for config in configs),
            comparisons=tuple(self._sides),
            pairs=paired.PAIRS,
        )

    def records(self, seed: int) -> list[ComparisonRecord]:
        """Return what was found, a record for each comparison."""
        return [self._record(i, two, seed) for i, two in enumerate(self.subjects)]

    def _record(self, i: int, two: tuple[Subject, Subject], seed: int) -> ComparisonRecord:
        own, found = self._sides[i], [session[i] for session in self.taken]
        return ComparisonRecord(
            backend=self.runtime.name,
            timed=found[0].timed,
            session=found[0].session,
            energy=found[0].energy,
            baseline=artifacts.described(two[0], own[0], self._files.get(two[0].path)),
            candidate=artifacts.described(two[1], own[1], self._files.get(two[1].path)),
            batches=tuple(
                together(batches, own[0], own[1], seed)
                for batches in zip(*(entry.batches for entry in found), strict=True)
            ),
        )


def _measure(parts: Sequence[_Part], plan: _Plan, say: Progress) -> None:
    """Run the sessions, back ends in turn: those of one lie apart in time, as what disturbs them does."""
    count = plan.sessions * len(parts)
    with process.Processes() as processes:
        for session in range(plan.sessions):
            for i, part in enumerate(parts):
                own = part_of(say, (session * len(parts) + i) / count, 1 / count)
                done = processes.done(
                    plan.of(part.job, session), process.MEASURE, Measured, _named(own, session, plan)
                )
                part.taken.append(done)


def _named(say: Progress, session: int, plan: _Plan) -> Progress:
    if plan.sessions == 1:
        return say
    return lambda what, done: say(f"session {session + 1} of {plan.sessions}: {what}", done)


def _protocol(sessions: int) -> str:
    kind = "one" if sessions == 1 else "few" if sessions < RANKED_FROM else "many"
    said = "one session" if sessions == 1 else f"{sessions} sessions"
    return PROTOCOL.format(sessions=said, interval=INTERVALS[kind])


def _checked(
    batches: Sequence[int], threads: int | None, pairs: int, budget_s: float | None, sessions: int | None
) -> tuple[list[int], int, int]:
    """Refuse impossible options; return the batch sizes without repetition, the threads and the sessions."""
    most = pairs // paired.BLOCK_PAIRS
    problem = None
    if not batches or min(batches) < 1:
        problem = f"batch sizes {list(batches)} are not possible", "give --batch one or more numbers from 1"
    elif threads is not None and threads < 1:
        problem = f"{threads} threads are not possible", "give --threads from 1"
    elif pairs < paired.MIN_PAIRS:
        problem = f"{pairs} pairs are too few to judge on", f"give --pairs from {paired.MIN_PAIRS}"
    elif budget_s is not None and budget_s <= 0:
        problem = f"a budget of {budget_s:g} seconds is not possible", "give --budget more than 0"
    elif sessions is not None and sessions < 1:
        problem = f"{sessions} sessions are not possible", "give --sessions from 1"
    elif sessions is not None and budget_s is None and sessions > most:
        problem = (
            f"{sessions} sessions are too many for {pairs} pairs: each takes {paired.BLOCK_PAIRS} at least",
            f"give --sessions up to {most}, or --pairs from {sessions * paired.BLOCK_PAIRS}",
        )
    if problem is not None:
        raise CompressError(problem[0], hint=problem[1], code="bad-option")
    return list(dict.fromkeys(batches)), threads or default_threads(), sessions or min(SESSIONS, most)
