"""Measuring comparisons on one back end in one session: load, warm up, A/A, A/B. It runs in its own process.

What it finds is raw; `compress.bench.protocol.sessions` makes one result of what several sessions found.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainSerializer, PlainValidator

from compress.bench.backends import Backend, Network, RunConfig, Runner, require_backend
from compress.bench.protocol import gpu, paired
from compress.bench.protocol.energy import EnergyRecord, energy
from compress.bench.protocol.gpu import GpuBlock
from compress.bench.protocol.machine import OthersLoad
from compress.bench.protocol.memory import Memory, peak_memory
from compress.bench.protocol.paired import Comparison, WarmUp
from compress.core.spec import Record

NO_GPU = "the back end uses no GPU"

FLOOR_SHARE = 0.4
"""Share of a budget that goes into the A/A comparison."""

Progress = Callable[[str, float], None]
"""Called with what is being done, and the share of the whole that is done, 0 to 1."""


def _array(value: Any) -> NDArray[np.int64]:
    raw = base64.b64decode(value) if isinstance(value, str) else np.asarray(value, np.int64).tobytes()
    return np.frombuffer(raw, np.int64)


Nanoseconds = Annotated[
    NDArray[np.int64],
    PlainValidator(_array),
    PlainSerializer(lambda a: base64.b64encode(a.tobytes()).decode()),
]
"""Times; as text their bytes, for there may be millions."""


class Side(Record):
    """One side of a comparison: a file, or a network of a run folder.

    Attributes:
        label: what it is called. path, network: see `compress.bench.backends.Backend.load` and `RunConfig`.
        macs: of one image; None where they are not known.
        given: whether the user named the file, so that it may be anything.
        sha256: hash of an engine made for the benchmark, see `RunConfig`.
    """

    label: str
    path: Path
    network: Network = "compact"
    macs: int | None = None
    given: bool = False
    sha256: str | None = None


class Job(Record):
    """What one process measures.

    Attributes:
        backend: name of the back end.
        configs: one for each batch size.
        comparisons: baseline and candidate of each.
        pairs: of each comparison in this session. budget_s: seconds of each comparison at each batch size in
            this session, instead. at_least: pairs, however small the budget.
        session, sessions: which one this is, from 0, and of how many. The first one also looks at the files
            that the user named, and measures energy and memory.
    """

    backend: str
    configs: tuple[RunConfig, ...]
    comparisons: tuple[tuple[Side, Side], ...]
    pairs: int
    budget_s: float | None = None
    at_least: int = paired.MIN_PAIRS
    session: int = 0
    sessions: int = 1


class Pairs(Record):
    """Two runners in pairs by one clock: the log-ratio of each pair, and every time of both.

    Attributes:
        repeats: inferences of one measurement, of each side.
    """

    ratios: tuple[float, ...]
    a_ns: Nanoseconds
    b_ns: Nanoseconds
    repeats: tuple[int, int]


class SideTaken(Record):
    """What a session found of one side beside its pairs.

    Attributes:
        memory: None but in the first session. energy: empty but in the first session.
    """

    warm: WarmUp
    load_ns: int
    memory: Memory | None = None
    energy: tuple[EnergyRecord, ...] = ()


class BatchTaken(Record):
    """What a session found at one batch size.

    Attributes:
        same: the baseline against a second one of itself (A/A). other: against the candidate. device: the
            latter by the device's clock; None without one.
        baseline, candidate: of each side.
        others_load: see `compress.bench.results.record.BatchRecord`.
        gpu: its state after each block of `other`; None without one, or where it does not tell.
    """

    batch: int
    same: Pairs
    other: Pairs
    device: Pairs | None
    baseline: SideTaken
    candidate: SideTaken
    others_load: float
    gpu: tuple[GpuBlock, ...] | None


class Measured(Record):
    """What a session found of a comparison: see `compress.bench.results.record.ComparisonRecord`."""

    timed: str
    session: dict[str, str]
    energy: dict[str, str]
    batches: tuple[BatchTaken, ...]


def measure(job: Job, say: Progress) -> tuple[Measured, ...]:
    """Measure every comparison at every batch size.

    Raises:
        CompressError: the back end cannot run here, or not these networks as configured.
    """
    if job.session == 0:
        _check_given(job, say)
    parts = len(job.comparisons) * len(job.configs)
    found = []
    for i, (baseline, candidate) in enumerate(job.comparisons):
        batches, session, counted = [], dict[str, str](), dict[str, str]()
        for j, config in enumerate(job.configs):
            start = (i * len(job.configs) + j) / parts
            name = f"{job.backend}, batch {config.batch}"
            runtime = require_backend(job.backend, config)
            part = _Batch(runtime, baseline, candidate, config, job, _part(say, name, start, 1 / parts))
            batches.append(part.measured())
            session, counted = session or part.session, part.counted
        timed = runtime.describe_timing(job.configs[0])
        found.append(Measured(timed=timed, session=session, energy=counted, batches=tuple(batches)))
    return tuple(found)


def _check_given(job: Job, say: Progress) -> None:
    """Load every file that the user named once at every batch size: a fault shows before the first hour."""
    for config in job.configs:
        for side in dict.fromkeys(side for two in job.comparisons for side in two if side.given):
            say(f"{job.backend}: looking at {side.label}", 0.0)
            require_backend(job.backend, config).load(side.path, config).close()


class _Batch:
    """A comparison at one batch size."""

    def __init__(
        self, runtime: Backend, baseline: Side, candidate: Side, config: RunConfig, job: Job, say: Progress
    ) -> None:
        self.runtime, self.config, self.job, self.say = runtime, config, job, say
        self.baseline, self.candidate = baseline, candidate
        self.session: dict[str, str] = {}
        self.counted: dict[str, str] = {}
        self.states = list[GpuBlock]()

    def measured(self) -> BatchTaken:
        """Load both (the baseline twice), and compare."""
        first, second = _split(self.job.budget_s)
        with contextlib.ExitStack() as stack:
            self.say("loading", 0.0)
            runners = self._loaded(stack)
            self.session = runners[0].settings
            self.say("warming up", 0.05)
            warm = [self._warm(runner) for runner in runners]
            nvml = NO_GPU if runners[0].device_ns is None else gpu.handle()
            others = OthersLoad()
            same = self._compared(runners, warm, 1, first, (0.1, 0.35))
            other = self._compared(runners, warm, 2, second, (0.45, 0.45), nvml)
            load = others.share()
            sides = [SideTaken(warm=warm[i], load_ns=runners[i].load_ns) for i in (0, 2)]
            if self.job.session == 0:
                self.say("measuring energy", 0.9)
                counters = energy(nvml)
                self.counted = counters.said
                used = [counters.of(runners[i], warm[i].typical_ns) for i in (0, 2)]
                sides = [side.model_copy(update={"energy": e}) for side, e in zip(sides, used, strict=True)]
        if self.job.session == 0:
            self.say("measuring memory", 0.9)
            sides = [
                taken.model_copy(update={"memory": self._memory(side)})
                for taken, side in zip(sides, (self.baseline, self.candidate), strict=True)
            ]
        return BatchTaken(
            batch=self.config.batch,
            same=_pairs(same),
            other=_pairs(other),
            device=_device_pairs(other),
            baseline=sides[0],
            candidate=sides[1],
            others_load=load,
            gpu=tuple(self.states) if 2 * len(self.states) == len(other.ratios) else None,
        )

    def _loaded(self, stack: contextlib.ExitStack) -> list[Runner]:
        """Load the baseline twice and the candidate, in another order each session.

        Who is loaded first gets other memory and other cores; in any three sessions each is first once.
        """
        sides = (self.baseline, self.baseline, self.candidate)
        turns, first = divmod(self.job.session, 3)
        order = (0, 1, 2) if turns % 2 == 0 else (2, 1, 0)
        found = dict[int, Runner]()
        for i in order[first:] + order[:first]:
            found[i] = self.runtime.load(sides[i].path, self._config_of(sides[i]))
            stack.callback(found[i].close)
        return [found[i] for i in range(3)]

    def _config_of(self, side: Side) -> RunConfig:
        return replace(self.config, network=side.network, sha256=side.sha256)

    def _warm(self, runner: Runner) -> WarmUp:
        if self.job.sessions == 1:
            return paired.warm_up(runner)
        return paired.warm_up(
            runner, at_least_ns=paired.SHORT_WARM_UP_NS, at_most_ns=paired.SHORT_WARM_UP_LIMIT_NS
        )

    def _compared(
        self,
        runners: list[Runner],
        warm: list[WarmUp],
        second: int,
        budget_s: float | None,
        share: tuple[float, float],
        nvml: tuple[Any, Any] | str = NO_GPU,
    ) -> Comparison:
        def after_block(done: float) -> None:
            state = None if isinstance(nvml, str) else gpu.block(nvml)
            if state is not None:
                self.states.append(state)
            self.say(what, share[0] + share[1] * done)

        name = self.baseline.label
        what = f"{name} against {'itself' if second == 1 else self.candidate.label}"
        return paired.compare(
            runners[0],
            runners[second],
            typical_ns=(warm[0].typical_ns, warm[second].typical_ns),
            pairs=self.job.pairs,
            budget_s=budget_s,
            at_least=self.job.at_least,
            seed=self.config.seed,
            report=after_block,
        )

    def _memory(self, side: Side) -> Memory:
        return peak_memory(side.path, self._config_of(side), self.runtime.name)


def _pairs(found: Comparison) -> Pairs:
    ratios: tuple[float, ...] = tuple(found.ratios.tolist())
    return Pairs(ratios=ratios, a_ns=found.a_ns, b_ns=found.b_ns, repeats=found.repeats)


def _device_pairs(found: Comparison) -> Pairs | None:
    if found.device is None:
        return None
    ratios: tuple[float, ...] = tuple(found.device.ratios.tolist())
    return Pairs(ratios=ratios, a_ns=found.device.a_ns, b_ns=found.device.b_ns, repeats=found.repeats)


def _split(budget_s: float | None) -> tuple[float | None, float | None]:
    """Divide a budget between the A/A comparison and the one that matters."""
    return (None, None) if budget_s is None else (budget_s * FLOOR_SHARE, budget_s * (1 - FLOOR_SHARE))


def _part(say: Progress, name: str, start: float, length: float) -> Progress:
    return lambda what, done: say(f"{name}: {what}", start + length * done)
