"""Measuring comparisons on one back end: load, warm up, A/A, A/B, memory. It runs in a process of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import gpu, paired, record, stats
from bench.energy import EnergyRecord, energy
from bench.gpu import GpuBlock
from bench.machine import OthersLoad
from bench.memory import peak_memory
from bench.paired import Comparison, WarmUp
from bench.record import BatchRecord, SideRecord
from bench.runners import Backend, Network, RunConfig, Runner, usable
from compress.spec import Record

NO_GPU = "the back end uses no GPU"

FLOOR_SHARE = 0.4
"""Share of a budget that goes into the A/A comparison."""

Progress = Callable[[str, float], None]
"""Called with what is being done, and the share of the whole that is done, 0 to 1."""


class Side(Record):
    """One side of a comparison: a file, or a network of a run folder.

    Attributes:
        label: what it is called. path, network: see `bench.runners.Backend.load` and `RunConfig`.
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
        pairs: of each comparison. budget_s: seconds of each comparison at each batch size, instead.
    """

    backend: str
    configs: tuple[RunConfig, ...]
    comparisons: tuple[tuple[Side, Side], ...]
    pairs: int
    budget_s: float | None = None


class Measured(Record):
    """What a comparison gave: see `bench.record.ComparisonRecord`."""

    timed: str
    session: dict[str, str]
    energy: dict[str, str]
    batches: tuple[BatchRecord, ...]


def measure(job: Job, say: Progress) -> tuple[Measured, ...]:
    """Measure every comparison at every batch size.

    Raises:
        CompressError: the back end cannot run here, or not these networks as configured.
    """
    _check_given(job, say)
    parts = len(job.comparisons) * len(job.configs)
    found = []
    for i, (baseline, candidate) in enumerate(job.comparisons):
        batches, session, counted = [], dict[str, str](), dict[str, str]()
        for j, config in enumerate(job.configs):
            start = (i * len(job.configs) + j) / parts
            name = f"{job.backend}, batch {config.batch}"
            runtime = usable(job.backend, config)
            part = _Batch(runtime, baseline, candidate, config, _part(say, name, start, 1 / parts))
            batches.append(part.measured(job.pairs, job.budget_s))
            session, counted = session or part.session, part.counted
        timed = runtime.timed(job.configs[0])
        found.append(Measured(timed=timed, session=session, energy=counted, batches=tuple(batches)))
    return tuple(found)


def _check_given(job: Job, say: Progress) -> None:
    """Load every file that the user named once at every batch size: a fault shows before the first hour."""
    for config in job.configs:
        for side in dict.fromkeys(side for two in job.comparisons for side in two if side.given):
            say(f"{job.backend}: looking at {side.label}", 0.0)
            usable(job.backend, config).load(side.path, config).close()


class _Batch:
    """A comparison at one batch size."""

    def __init__(
        self, runtime: Backend, baseline: Side, candidate: Side, config: RunConfig, say: Progress
    ) -> None:
        self.runtime, self.config, self.say = runtime, config, say
        self.baseline, self.candidate = baseline, candidate
        self.session: dict[str, str] = {}
        self.counted: dict[str, str] = {}
        self.states = list[GpuBlock]()

    def measured(self, pairs: int, budget_s: float | None) -> BatchRecord:
        """Load both (the baseline twice), and compare."""
        first, second = _split(budget_s)
        with contextlib.ExitStack() as stack:
            self.say("loading", 0.0)
            runners = [self._loaded(stack, side) for side in (self.baseline, self.baseline, self.candidate)]
            self.session = runners[0].settings
            self.say("warming up", 0.05)
            warm = [paired.warm_up(runner) for runner in runners]
            nvml = NO_GPU if runners[0].device_ns is None else gpu.handle()
            others = OthersLoad()
            same = self._compared(runners, warm, 1, pairs, first, (0.1, 0.35))
            other = self._compared(runners, warm, 2, pairs, second, (0.45, 0.45), nvml)
            load = others.share()
            loads = runners[0].load_ns, runners[2].load_ns
            self.say("measuring energy", 0.9)
            counters = energy(nvml)
            self.counted = counters.said
            used = [counters.of(runners[i], warm[i].typical_ns) for i in (0, 2)]
        self.say("measuring memory", 0.9)
        sides = (
            self._side(0, other, warm[0], loads[0], used[0]),
            self._side(1, other, warm[2], loads[1], used[1]),
        )
        return self._record(sides, same, other, load)

    def _loaded(self, stack: contextlib.ExitStack, side: Side) -> Runner:
        runner = self.runtime.load(side.path, self._config_of(side))
        stack.callback(runner.close)
        return runner

    def _config_of(self, side: Side) -> RunConfig:
        return replace(self.config, network=side.network, sha256=side.sha256)

    def _compared(
        self,
        runners: list[Runner],
        warm: list[WarmUp],
        second: int,
        pairs: int,
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
            pairs=pairs,
            budget_s=budget_s,
            seed=self.config.seed,
            report=after_block,
        )

    def _side(
        self, i: int, found: Comparison, warm: WarmUp, load_ns: int, used: tuple[EnergyRecord, ...]
    ) -> SideRecord:
        side = (self.baseline, self.candidate)[i]
        device = found.device
        return record.side_record(
            side.label,
            warm,
            stats.latency((found.a_ns, found.b_ns)[i], repeats=found.repeats[i]),
            load_ns=load_ns,
            batch=self.config.batch,
            repeats=found.repeats[i],
            memory=peak_memory(side.path, self._config_of(side), self.runtime.name),
            device=None if device is None else stats.latency((device.a_ns, device.b_ns)[i]),
            energy=used,
        )

    def _record(
        self, sides: tuple[SideRecord, SideRecord], same: Comparison, other: Comparison, load: float
    ) -> BatchRecord:
        floor = record.noise_floor(same)
        speedup = record.ratio_record(other.ratio)
        macs = self.baseline.macs, self.candidate.macs
        reduction = None if macs[0] is None or macs[1] is None else macs[0] / max(macs[1], 1)
        return BatchRecord(
            batch=self.config.batch,
            baseline=sides[0],
            candidate=sides[1],
            noise=record.ratio_record(same.ratio),
            floor=floor,
            speedup=speedup,
            device_speedup=None if other.device is None else record.ratio_record(other.device.ratio),
            verdict=stats.verdict(other.ratio, floor),
            mac_reduction=reduction,
            efficiency=None if reduction is None else speedup.ratio / reduction,
            others_load=load,
            gpu=gpu.gpu_record(self.states) if 2 * len(self.states) == len(other.ratios) else None,
        )


def _split(budget_s: float | None) -> tuple[float | None, float | None]:
    """Divide a budget between the A/A comparison and the one that matters."""
    return (None, None) if budget_s is None else (budget_s * FLOOR_SHARE, budget_s * (1 - FLOOR_SHARE))


def _part(say: Progress, name: str, start: float, length: float) -> Progress:
    return lambda what, done: say(f"{name}: {what}", start + length * done)
