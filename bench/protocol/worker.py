"""Measure comparisons on one back end in one session: load, warm up, A/A, A/B. Runs in a process of its own.

The measurements are raw; `compress.bench.results.merge_sessions` merges those of several sessions.
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
from compress.bench.protocol.energy import EnergyRecord, find_counters
from compress.bench.protocol.gpu import GpuBlock
from compress.bench.protocol.machine import OthersLoad
from compress.bench.protocol.memory import Memory, peak_memory
from compress.bench.protocol.paired import PairedComparison, WarmUp
from compress.core.spec import Record

NO_GPU = "the back end uses no GPU"

FLOOR_SHARE = 0.4
"""Share of a time budget that is spent on the A/A comparison."""

Progress = Callable[[str, float], None]
"""Called with a description of the current step and the share of the work that is done, 0 to 1."""


def _array(value: Any) -> NDArray[np.int64]:
    raw = base64.b64decode(value) if isinstance(value, str) else np.asarray(value, np.int64).tobytes()
    return np.frombuffer(raw, np.int64)


Nanoseconds = Annotated[
    NDArray[np.int64],
    PlainValidator(_array),
    PlainSerializer(lambda a: base64.b64encode(a.tobytes()).decode()),
]
"""Times, `[inferences]`; serialized as base64 of their bytes, since there may be millions."""


class Side(Record):
    """One side of a comparison: a file, or a network of a run folder.

    Attributes:
        label: name in tables.
        path: file or run folder, see `compress.bench.backends.Backend.load`.
        network: which network of a run folder, see `RunConfig`.
        macs: multiply-accumulates per image; None if unknown.
        given: whether the user passed the file; such files are checked first.
        sha256: hash of an engine built for the benchmark, see `RunConfig`.
    """

    label: str
    path: Path
    network: Network = "compact"
    macs: int | None = None
    given: bool = False
    sha256: str | None = None


class Job(Record):
    """Input of one measuring process.

    Attributes:
        backend: name of the back end.
        configs: one for each batch size.
        comparisons: baseline and candidate of each comparison.
        pairs: number of pairs of each comparison in this session.
        budget_s: seconds for each comparison at each batch size in this session, instead of `pairs`.
        at_least: smallest number of pairs with a budget.
        session: index of this session, from 0. The first one also checks the files that the user passed, and
            measures energy and memory.
        sessions: number of sessions.
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
    """Two runners measured in pairs by one clock.

    Attributes:
        ratios: log-ratio of each pair.
        a_ns, b_ns: time of every inference, `[inferences]`.
        repeats: inferences per measurement, for each side.
    """

    ratios: tuple[float, ...]
    a_ns: Nanoseconds
    b_ns: Nanoseconds
    repeats: tuple[int, int]


class SideMeasurements(Record):
    """Measurements of one side in one session, other than its pairs.

    Attributes:
        warm: its warm-up.
        load_ns: nanoseconds it took to load.
        memory: peak memory, in the first session only.
        energy: energy of an inference, in the first session only.
    """

    warm: WarmUp
    load_ns: int
    memory: Memory | None = None
    energy: tuple[EnergyRecord, ...] = ()


class BatchMeasurements(Record):
    """Measurements of one session at one batch size.

    Attributes:
        same: the baseline compared with a second copy of itself (A/A).
        other: the baseline compared with the candidate.
        device: `other` by the device's clock; None without a device.
        baseline, candidate: the other measurements of each side.
        others_load: see `compress.bench.results.record.BatchRecord`.
        gpu: state of the GPU after each block of `other`; None without a GPU or if it cannot be read.
    """

    batch: int
    same: Pairs
    other: Pairs
    device: Pairs | None
    baseline: SideMeasurements
    candidate: SideMeasurements
    others_load: float
    gpu: tuple[GpuBlock, ...] | None


class ComparisonMeasurements(Record):
    """Measurements of one comparison in one session; see `compress.bench.results.record.ComparisonRecord`."""

    timed: str
    session: dict[str, str]
    energy: dict[str, str]
    batches: tuple[BatchMeasurements, ...]


def run_job(job: Job, say: Progress) -> tuple[ComparisonMeasurements, ...]:
    """Measure every comparison at every batch size.

    Raises:
        CompressError: the back end cannot run here, or cannot run a network with these settings.
    """
    if job.session == 0:
        _check_given_files(job, say)
    parts = len(job.comparisons) * len(job.configs)
    measurements = []
    for i, (baseline, candidate) in enumerate(job.comparisons):
        batches, session, energy_sources = [], dict[str, str](), dict[str, str]()
        for j, config in enumerate(job.configs):
            start = (i * len(job.configs) + j) / parts
            name = f"{job.backend}, batch {config.batch}"
            runtime = require_backend(job.backend, config)
            part = _BatchSession(
                runtime, baseline, candidate, config, job, _subprogress(say, name, start, 1 / parts)
            )
            batches.append(part.measure())
            session, energy_sources = session or part.session, part.energy_sources
        timed = runtime.describe_timing(job.configs[0])
        measurements.append(
            ComparisonMeasurements(
                timed=timed, session=session, energy=energy_sources, batches=tuple(batches)
            )
        )
    return tuple(measurements)


def _check_given_files(job: Job, say: Progress) -> None:
    """Load every file that the user passed at every batch size, to report errors before measuring."""
    for config in job.configs:
        for side in dict.fromkeys(side for pair in job.comparisons for side in pair if side.given):
            say(f"{job.backend}: checking {side.label}", 0.0)
            require_backend(job.backend, config).load(side.path, config).close()


class _BatchSession:
    """Measures a comparison at one batch size."""

    def __init__(
        self, runtime: Backend, baseline: Side, candidate: Side, config: RunConfig, job: Job, say: Progress
    ) -> None:
        self.runtime, self.config, self.job, self.say = runtime, config, job, say
        self.baseline, self.candidate = baseline, candidate
        self.session: dict[str, str] = {}
        self.energy_sources: dict[str, str] = {}
        self.states = list[GpuBlock]()

    def measure(self) -> BatchMeasurements:
        """Load both networks (the baseline twice) and compare them."""
        aa_budget, ab_budget = _split_budget(self.job.budget_s)
        with contextlib.ExitStack() as stack:
            self.say("loading", 0.0)
            runners = self._load_runners(stack)
            self.session = runners[0].settings
            self.say("warming up", 0.05)
            warm = [self._warm_up(runner) for runner in runners]
            nvml = NO_GPU if runners[0].device_ns is None else gpu.open_nvml()
            others = OthersLoad()
            same = self._compare(runners, warm, 1, aa_budget, (0.1, 0.35))
            other = self._compare(runners, warm, 2, ab_budget, (0.45, 0.45), nvml)
            load = others.share()
            sides = [SideMeasurements(warm=warm[i], load_ns=runners[i].load_ns) for i in (0, 2)]
            if self.job.session == 0:
                self.say("measuring energy", 0.9)
                counters = find_counters(nvml)
                self.energy_sources = counters.sources
                used = [counters.measure(runners[i], warm[i].typical_ns) for i in (0, 2)]
                sides = [side.model_copy(update={"energy": e}) for side, e in zip(sides, used, strict=True)]
        if self.job.session == 0:
            self.say("measuring memory", 0.9)
            sides = [
                measured.model_copy(update={"memory": self._memory(side)})
                for measured, side in zip(sides, (self.baseline, self.candidate), strict=True)
            ]
        return BatchMeasurements(
            batch=self.config.batch,
            same=_pairs(same),
            other=_pairs(other),
            device=_device_pairs(other),
            baseline=sides[0],
            candidate=sides[1],
            others_load=load,
            gpu=tuple(self.states) if 2 * len(self.states) == len(other.ratios) else None,
        )

    def _load_runners(self, stack: contextlib.ExitStack) -> list[Runner]:
        """Load the baseline twice and the candidate, in a different order each session.

        The order of loading decides memory placement and cores; in any three sessions each one is first once.
        """
        sides = (self.baseline, self.baseline, self.candidate)
        turns, first = divmod(self.job.session, 3)
        order = (0, 1, 2) if turns % 2 == 0 else (2, 1, 0)
        runners = dict[int, Runner]()
        for i in order[first:] + order[:first]:
            runners[i] = self.runtime.load(sides[i].path, self._config_of(sides[i]))
            stack.callback(runners[i].close)
        return [runners[i] for i in range(3)]

    def _config_of(self, side: Side) -> RunConfig:
        return replace(self.config, network=side.network, sha256=side.sha256)

    def _warm_up(self, runner: Runner) -> WarmUp:
        if self.job.sessions == 1:
            return paired.warm_up(runner)
        return paired.warm_up(
            runner, at_least_ns=paired.SHORT_WARM_UP_NS, at_most_ns=paired.SHORT_WARM_UP_LIMIT_NS
        )

    def _compare(
        self,
        runners: list[Runner],
        warm: list[WarmUp],
        second: int,
        budget_s: float | None,
        share: tuple[float, float],
        nvml: tuple[Any, Any] | str = NO_GPU,
    ) -> PairedComparison:
        def after_block(done: float) -> None:
            state = None if isinstance(nvml, str) else gpu.read_block(nvml)
            if state is not None:
                self.states.append(state)
            self.say(description, share[0] + share[1] * done)

        name = self.baseline.label
        description = f"{name} against {'itself' if second == 1 else self.candidate.label}"
        return paired.compare_in_pairs(
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


def _pairs(comparison: PairedComparison) -> Pairs:
    ratios: tuple[float, ...] = tuple(comparison.ratios.tolist())
    return Pairs(ratios=ratios, a_ns=comparison.a_ns, b_ns=comparison.b_ns, repeats=comparison.repeats)


def _device_pairs(comparison: PairedComparison) -> Pairs | None:
    if comparison.device is None:
        return None
    ratios: tuple[float, ...] = tuple(comparison.device.ratios.tolist())
    return Pairs(
        ratios=ratios, a_ns=comparison.device.a_ns, b_ns=comparison.device.b_ns, repeats=comparison.repeats
    )


def _split_budget(budget_s: float | None) -> tuple[float | None, float | None]:
    """Return the seconds for the A/A comparison and for the comparison with the candidate."""
    return (None, None) if budget_s is None else (budget_s * FLOOR_SHARE, budget_s * (1 - FLOOR_SHARE))


def _subprogress(say: Progress, name: str, start: float, length: float) -> Progress:
    return lambda what, done: say(f"{name}: {what}", start + length * done)
