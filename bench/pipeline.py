"""Run a benchmark: prepare the networks, measure them in several processes, write the result."""

from __future__ import annotations

import contextlib
import math
import sys
import time
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
from compress.bench.protocol import paired, process
from compress.bench.protocol.machine import cpu_state, default_threads
from compress.bench.protocol.stats import RANKED_FROM
from compress.bench.protocol.worker import ComparisonMeasurements, Job, Progress
from compress.bench.results import record
from compress.bench.results.merge_sessions import SESSIONS, merge_sessions
from compress.bench.results.record import FILENAME, BenchResult, ComparisonRecord, SkippedRecord
from compress.core.errors import CompressError

PROTOCOL = (
    "{sessions} for each back end, each in its own process, which loads the networks in another order; "
    "baseline and candidate alternate in ABBA blocks after a warm-up, each after the threads of the other "
    "are idle and after untimed inferences; each pair is the ratio of two medians of repeated inferences of "
    "about 20 ms; {interval}; the noise floor is the reach of the same interval for the baseline against a "
    "second instance of itself in the same process (A/A)"
)

INTERVALS = {
    "one": "median of the log-ratios with a 95% bootstrap interval over the pairs",
    "few": "median of the sessions' median log-ratios with a 95% t-interval over the sessions",
    "many": "median of the sessions' median log-ratios with a 95% interval of their ranks",
}
"""Method of the interval for one session, for fewer than `stats.RANKED_FROM` sessions, and for more."""

SESSION_S = 2.5
"""Seconds of a budget, after the networks are prepared, for one session of one comparison.

With a smaller budget, fewer sessions are run.
"""

MIN_BUDGET_SESSIONS = 3
"""Fewest sessions of a measurement with a budget, unless a number is given."""

SESSION_OVERHEAD_S = 1.5
"""Assumed seconds that the first session of a comparison needs for loading and warm-up."""


def bench(
    *sources: object,
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
    started: float | None = None,
) -> BenchResult:
    """Measure artifacts in pairs on one or more back ends, and write `bench/results.json` in the first run.

    Args:
        sources: run folders (paths, `RunFolder`, or results with an attribute `run`, such as a
            `TrainResult`) and exported files (paths, or results with an attribute `path`).
            `compress.bench.artifacts` describes the baseline of each; a single run compares its compact model
            with its dense network.
        batches: batch sizes, each compared separately.
        threads: intra-op threads; None: physical cores that this process may use.
        pairs: number of pairs of each comparison in all sessions together, at least 10; every session
            measures the same whole number of blocks of two pairs.
        budget_s: seconds for the whole call instead of a number of pairs, including loading, warm-up and the
            memory measurement; at least 10 pairs of each comparison are measured in any case.
        sessions: number of processes that measure each comparison, one after the other; None:
            `merge_sessions.SESSIONS`, or fewer if there are not two pairs or `SESSION_S` seconds of the
            budget for each.
        backend: names of back ends, one string with commas between or several.
        seed: seed of the input and of the bootstrap.
        choices: device, memory layout, CUDA graph and other options of some back ends.
        out: file of the result; None: `bench/results.json` of the first run, and no file if only exported
            files are given.
        progress: called with a description and the finished fraction.
        command: command line to record; None: that of this process.
        started: `time.monotonic()` from which the budget counts; None: the time of the call.

    Returns:
        The result. A comparison that one of several back ends cannot run is listed in its `skipped`.

    Raises:
        CompressError: an invalid option, an unknown back end, or an artifact that none of the back ends can
            run (USAGE); no compact model, a back end that cannot run here or a silent fallback of the
            runtime (MISSING); a network that cannot be exported, or a process that died (BUILD).
    """
    start = time.monotonic() if started is None else started
    sizes, count, times = _check_arguments(batches, threads, pairs, budget_s, sessions)
    configs = tuple(run_config(size, count, seed, choices or BackendOptions()) for size in sizes)
    runtimes = usable_backends(backend, configs[0])
    paths = [artifacts.artifact_path(source) for source in sources]
    subjects = artifacts.comparisons(paths)
    say = progress or no_progress
    before = cpu_state()
    with contextlib.ExitStack() as stack:
        runs = open_runs(stack, subjects)
        parts, skipped = _readable_parts(runtimes, subjects, runs)
        for i, part in enumerate(parts):
            part.prepare(configs, subprogress(say, PREPARING * i / len(parts), PREPARING / len(parts)))
        comparisons = len(sizes) * sum(len(part.subjects) for part in parts)
        if budget_s is not None and sessions is None:
            left = budget_s - (time.monotonic() - start)
            times = min(times, max(MIN_BUDGET_SESSIONS, int(left / comparisons / SESSION_S)))
        plan = _Plan(pairs, budget_s, times, comparisons, start)
        _run_sessions(parts, plan, subprogress(say, PREPARING, 1 - PREPARING))
        records = [record for part in parts for record in part.records(seed)]
        result = BenchResult(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            command=tuple(sys.argv if command is None else command),
            artefacts=tuple(path.resolve().name for path in paths),
            protocol=_protocol(times),
            threads=count,
            sessions=times,
            seed=seed,
            machine=artifact.this_machine(),
            before=before,
            after=cpu_state(),
            versions=versions_here(),
            comparisons=tuple(records),
            skipped=skipped,
        )
        place = result_path(out, runs, FILENAME)
        if place is not None:
            record.save(result, place)
    say("done", 1.0)
    return result


@dataclass(frozen=True)
class _Plan:
    """Number of pairs and sessions, and the budget; see the arguments of `bench`.

    Attributes:
        comparisons: number of comparisons that share the budget.
        start: `time.monotonic` when the budget began.
    """

    pairs: int
    budget_s: float | None
    sessions: int
    comparisons: int
    start: float = 0.0

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


def _readable_parts(
    runtimes: Sequence[Backend],
    subjects: Sequence[tuple[Subject, Subject]],
    runs: dict[Path, Prepared],
) -> tuple[list[_Part], tuple[SkippedRecord, ...]]:
    """Return what each back end measures, and the comparisons that it skips since it does not read a file.

    Raises:
        CompressError: none of the back ends can run a comparison.
    """
    readable: dict[str, list[tuple[Subject, Subject]]] = {runtime.name: [] for runtime in runtimes}
    skipped = list[SkippedRecord]()
    for two in subjects:
        errors = list[CompressError]()
        for runtime in runtimes:
            try:
                require_readable([two], [runtime])
            except CompressError as error:
                if error.code != "wrong-kind":
                    raise
                errors.append(error)
                skipped.append(
                    SkippedRecord(
                        backend=runtime.name,
                        baseline=two[0].label,
                        candidate=two[1].label,
                        reason=error.message,
                    )
                )
            else:
                readable[runtime.name].append(two)
        if len(errors) == len(runtimes):
            raise errors[0]
    parts = [_Part(r, readable[r.name], runs) for r in runtimes if readable[r.name]]
    return parts, tuple(skipped)


class _Part:
    """The comparisons on one back end, and the measurements of its sessions."""

    def __init__(
        self,
        runtime: Backend,
        subjects: Sequence[tuple[Subject, Subject]],
        runs: dict[Path, Prepared],
    ) -> None:
        own = {subject.path for two in subjects for subject in two}
        self.runtime, self.subjects = runtime, subjects
        self._runs = {path: run for path, run in runs.items() if path in own}
        self.measurements = list[tuple[ComparisonMeasurements, ...]]()

    def prepare(self, configs: tuple[RunConfig, ...], say: Progress) -> None:
        """Build the files that the back end loads."""
        say(f"{self.runtime.name}: preparing the networks", 0.0)
        sizes = [config.batch for config in configs]
        self._files = {path: run.pair(self.runtime, sizes) for path, run in self._runs.items()}
        self._sides = [load_sides(two, self.runtime, self._files) for two in self.subjects]
        self.job = Job(
            backend=self.runtime.name,
            configs=tuple(supported_config(self.runtime, config) for config in configs),
            comparisons=tuple(self._sides),
            pairs=paired.PAIRS,
        )

    def records(self, seed: int) -> list[ComparisonRecord]:
        """Return a record for each comparison."""
        return [self._record(i, two, seed) for i, two in enumerate(self.subjects)]

    def _record(self, i: int, two: tuple[Subject, Subject], seed: int) -> ComparisonRecord:
        sides, measured = self._sides[i], [session[i] for session in self.measurements]
        return ComparisonRecord(
            backend=self.runtime.name,
            timed=measured[0].timed,
            session=measured[0].session,
            energy=measured[0].energy,
            baseline=artifacts.artifact_record(two[0], sides[0], self._files.get(two[0].path)),
            candidate=artifacts.artifact_record(two[1], sides[1], self._files.get(two[1].path)),
            batches=tuple(
                merge_sessions(batches, sides[0], sides[1], seed)
                for batches in zip(*(entry.batches for entry in measured), strict=True)
            ),
        )


def _run_sessions(parts: Sequence[_Part], plan: _Plan, say: Progress) -> None:
    """Run the sessions, alternating the back ends, so that a disturbance does not hit all sessions of one."""
    count = plan.sessions * len(parts)
    overhead = SESSION_OVERHEAD_S  # per comparison and session; then the smallest that was measured
    turns = plan.sessions * plan.comparisons
    with process.WorkerProcesses() as processes:
        for session in range(plan.sessions):
            for i, part in enumerate(parts):
                own = subprogress(say, (session * len(parts) + i) / count, 1 / count)
                job, size = plan.of(part.job, session), len(part.subjects) * len(part.job.configs)
                begun = time.monotonic()
                if plan.budget_s is not None:
                    left = plan.budget_s - (begun - plan.start)
                    job = job.model_copy(update={"budget_s": max(0.0, left / turns - overhead)})
                part.measurements.append(
                    processes.run(
                        job,
                        process.COMPARISON_WORKER,
                        ComparisonMeasurements,
                        _session_progress(own, session, plan),
                    )
                )
                turns -= size
                used = (time.monotonic() - begun) / size - (job.budget_s or 0.0)
                overhead = used if session == 0 and i == 0 else min(overhead, max(used, 0.0))


def _session_progress(say: Progress, session: int, plan: _Plan) -> Progress:
    if plan.sessions == 1:
        return say
    return lambda what, done: say(f"session {session + 1} of {plan.sessions}: {what}", done)


def _protocol(sessions: int) -> str:
    kind = "one" if sessions == 1 else "few" if sessions < RANKED_FROM else "many"
    text = "one session" if sessions == 1 else f"{sessions} sessions"
    return PROTOCOL.format(sessions=text, interval=INTERVALS[kind])


def _check_arguments(
    batches: Sequence[int], threads: int | None, pairs: int, budget_s: float | None, sessions: int | None
) -> tuple[list[int], int, int]:
    """Check the arguments; return the batch sizes without repetition, the threads and the sessions."""
    most = pairs // paired.BLOCK_PAIRS
    problem = None
    if not batches or min(batches) < 1:
        problem = f"batch sizes must be at least 1, not {list(batches)}", "give --batch 1 or more"
    elif threads is not None and threads < 1:
        problem = f"the number of threads must be at least 1, not {threads}", "give --threads 1 or more"
    elif pairs < paired.MIN_PAIRS:
        problem = f"{pairs} pairs are too few for a verdict", f"give --pairs {paired.MIN_PAIRS} or more"
    elif budget_s is not None and budget_s <= 0:
        problem = f"the budget must be more than 0 seconds, not {budget_s:g}", "give --budget 10 or more"
    elif sessions is not None and sessions < 1:
        problem = f"the number of sessions must be at least 1, not {sessions}", "give --sessions 1 or more"
    elif sessions is not None and budget_s is None and sessions > most:
        problem = (
            f"{sessions} sessions are too many for {pairs} pairs: each needs at least {paired.BLOCK_PAIRS}",
            f"give at most --sessions {most}, or at least --pairs {sessions * paired.BLOCK_PAIRS}",
        )
    if problem is not None:
        raise CompressError(problem[0], hint=problem[1], code="bad-option")
    return list(dict.fromkeys(batches)), threads or default_threads(), sessions or min(SESSIONS, most)
