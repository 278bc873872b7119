"""Server: queries that arrive at random, one worker, and the largest rate at which the p99 keeps a bound."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from compress.bench.backends import Runner
from compress.bench.protocol import paired
from compress.bench.protocol.machine import wait_for_rest
from compress.bench.protocol.measure import Progress
from compress.bench.protocol.paired import collector_off
from compress.bench.scenarios.arrivals import poisson
from compress.bench.scenarios.clock import Clock, HostClock
from compress.bench.scenarios.loaded import Networks, Watch
from compress.bench.scenarios.options import Options
from compress.bench.scenarios.queue import Served, serve, sizes_up_to
from compress.bench.scenarios.rates import MAX_ROUNDS, Outcome, RateRecord, judged, queries_of
from compress.bench.scenarios.record import Server, ServerSide, SingleStream
from compress.bench.scenarios.search import Given, Rates, Search, bracket

BOUND_FACTOR = 10
"""The bound on the p99 where none is given: so many times the baseline's single-stream median."""

PROTOCOL = (
    "queries of one image arrive as a Poisson process (exponential gaps, the same seed for both "
    "networks); one worker answers them first come first served, and takes as many waiting ones at once "
    "as the largest server batch allows, never waiting for more; the latency counts from the scheduled "
    "arrival to the answer, waiting included, so a stall delays every query that arrives in it; the "
    "networks take turns, round by round, each round beginning with an empty queue; a rate holds where "
    "the 95% interval of its p99 ends below the bound and fails where it begins above it or the offered "
    "load reaches 1; it is decided on 1,000 queries or more, and up to four rounds where one cannot; the "
    "ratio compares the rates at one speed of the machine, the median of those it had meanwhile; all in one "
    "process. Sending queries over a network is not included"
)


@dataclass(frozen=True)
class _Worker:
    """One network with a session for each size of a batch.

    Attributes:
        runners, typical_ns: by batch size, ascending.
    """

    label: str
    runners: dict[int, Runner]
    typical_ns: dict[int, float]
    clock: Clock

    @property
    def largest(self) -> int:
        """Most queries of an inference."""
        return max(self.runners)

    @property
    def capacity(self) -> float:
        """Queries a second with full batches, back to back."""
        return 1e9 * self.largest / self.typical_ns[self.largest]

    def round(self, qps: float, count: int, seed: int, part: int) -> Served:
        """Serve so many queries, the sessions being warm and the other network's threads at rest."""
        wait_for_rest()
        for size, runner in self.runners.items():
            runner.run(paired.repeats_for(self.typical_ns[size], paired.LEAD_IN_NS))
        arrivals = poisson(qps, count, seed, part)
        with collector_off():
            return serve(arrivals, lambda size: self.runners[size].run(1), self.clock, tuple(self.runners))


class _Tried:
    """One network, the rates it was tried at, and the one that comes next."""

    def __init__(self, worker: _Worker, options: Options) -> None:
        self.worker = worker
        self.plan: Rates = Given(options.qps) if options.qps else Search(worker.capacity)
        self.records = list[RateRecord]()

    def told(self, found: RateRecord) -> None:
        self.records.append(found)
        self.plan.told(found.qps, found.outcome)

    def side(self, ended: str) -> ServerSide:
        rates = sorted(self.records, key=lambda entry: entry.qps)
        holds, fails = bracket((entry.qps, entry.outcome) for entry in rates)
        return ServerSide(
            label=self.worker.label,
            capacity_qps=self.worker.capacity,
            rates=tuple(rates),
            holds_qps=holds,
            fails_qps=fails,
            ended=self.plan.ended or ended,
        )


def server(
    networks: Networks,
    options: Options,
    stream: SingleStream | None,
    say: Progress,
    clock: Clock | None = None,
) -> Server:
    """Try rates on both networks in turns.

    Args:
        stream: the single stream of these networks, from which the bound is taken if none is given.
        clock: of the queries; None takes the host's.
    """
    watch = Watch()
    with contextlib.ExitStack() as stack:
        say("warming up", 0.0)
        workers = _workers(stack, networks, options, clock or HostClock())
        bound_ms, bound_from = _bound(options, workers[0], stream)
        tried = [_Tried(worker, options) for worker in workers]
        steps = 0
        while options.budget_s is None or watch.seconds() < options.budget_s:
            todo = [(one, qps) for one in tried if (qps := one.plan.next()) is not None]
            if not todo:
                break
            said = " and ".join(f"{one.worker.label} at {qps:,.4g}" for one, qps in todo)
            say(f"server, {said} queries/s", 1 - 0.85**steps)
            for (one, _), found in zip(
                todo, _rates(todo, bound_ms, options, networks.config.seed), strict=True
            ):
                one.told(found)
            steps += 1
    baseline, candidate = (one.side("the budget ended") for one in tried)
    (base_holds, base_fails), (holds, fails) = baseline.at_one_speed, candidate.at_one_speed
    return Server(
        bound_ms=bound_ms,
        bound_from=bound_from,
        searched=not options.qps,
        max_batch=options.max_server_batch,
        baseline=baseline,
        candidate=candidate,
        ratio=_over(holds, base_holds),
        ratio_low=_over(holds, base_fails),
        ratio_high=_over(fails, base_holds),
        **watch.said(),
    )


def _workers(
    stack: contextlib.ExitStack, networks: Networks, options: Options, clock: Clock
) -> list[_Worker]:
    sizes = sizes_up_to(options.max_server_batch)
    loaded = {size: networks.load(stack, size) for size in sizes}
    return [
        _Worker(
            side.label,
            {size: loaded[size][i] for size in sizes},
            {size: paired.warm_up(loaded[size][i]).typical_ns for size in sizes},
            clock,
        )
        for i, side in enumerate(networks.sides)
    ]


def _bound(options: Options, baseline: _Worker, stream: SingleStream | None) -> tuple[float, str]:
    """The bound on the p99 in milliseconds, and where it comes from."""
    if options.p99_bound_ms is not None:
        return options.p99_bound_ms, "given"
    p50 = None if stream is None else stream.baseline.times.p50
    one_ms = baseline.typical_ns[1] / 1e6 if p50 is None else p50.ms
    where = "warm-up" if p50 is None else "single stream"
    said = f"{BOUND_FACTOR} times the median of {baseline.label} in the {where}, {one_ms:.3g} ms"
    return float(f"{BOUND_FACTOR * one_ms:.3g}"), said


def _rates(
    todo: Sequence[tuple[_Tried, float]], bound_ms: float, options: Options, seed: int
) -> list[RateRecord]:
    """Decide a rate of each: round by round in turns, until every one is decided or has had `MAX_ROUNDS`."""
    rounds: list[list[Served]] = [[] for _ in todo]
    found = list[RateRecord]()
    for part in range(MAX_ROUNDS):
        left = [i for i in range(len(todo)) if not found or found[i].outcome is Outcome.UNDECIDED]
        for i in left if part % 2 == 0 else reversed(left):
            worker, qps = todo[i][0].worker, todo[i][1]
            count = queries_of(qps, options.queries, worker.capacity)
            rounds[i].append(worker.round(qps, count, seed, part))
        found = [
            judged(
                qps,
                rounds[i],
                bound_ms,
                largest=one.worker.largest,
                full_ns=one.worker.typical_ns[one.worker.largest],
            )
            for i, (one, qps) in enumerate(todo)
        ]
        if all(entry.outcome is not Outcome.UNDECIDED for entry in found):
            break
    return found


def _over(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one / other
