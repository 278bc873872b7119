"""Server scenario: largest rate of randomly arriving queries at which the p99 meets a bound; one worker."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from compress.bench.backends import Runner
from compress.bench.protocol import paired
from compress.bench.protocol.machine import wait_for_rest
from compress.bench.protocol.paired import collector_off
from compress.bench.protocol.worker import Progress
from compress.bench.scenarios.clock import Clock, HostClock
from compress.bench.scenarios.network_pair import ConditionsMonitor, NetworkPair
from compress.bench.scenarios.options import Options
from compress.bench.scenarios.rate_search import FixedRates, RatePlan, RateSearch, bracket
from compress.bench.scenarios.rates import (
    MAX_ROUNDS,
    Outcome,
    RateRecord,
    evaluate_rate,
    queries_per_round,
)
from compress.bench.scenarios.record import Server, ServerSide, SingleStream
from compress.bench.scenarios.serving import ServedRound, poisson_arrivals, serve, sizes_up_to

BOUND_FACTOR = 10
"""Default bound on the p99, as a multiple of the baseline's single-stream median."""

PROTOCOL = (
    "queries of one image arrive as a Poisson process (exponential gaps, the same seed for both networks); "
    "one worker answers them first come, first served, and batches waiting queries up to the largest server "
    "batch without waiting for more; the latency counts from the scheduled arrival to the answer, so a stall "
    "delays every query that arrives during it; rounds of the two networks alternate, and each starts with "
    "an empty queue; a rate meets the bound if the 95% interval of its p99 ends at or below it, and exceeds "
    "it if the interval starts above it or the offered load reaches 1; a round has 1,000 queries or more, "
    "and up to four rounds are measured until the rate is decided; the ratio compares rates at the median "
    "speed of the machine; all in one process. Network transfer of queries is not included"
)


@dataclass(frozen=True)
class _Worker:
    """One network with a session for each batch size.

    Attributes:
        label: name of the network.
        runners, typical_ns: sessions and typical times of an inference, by batch size, ascending.
        clock: clock of the queries.
    """

    label: str
    runners: dict[int, Runner]
    typical_ns: dict[int, float]
    clock: Clock

    @property
    def largest(self) -> int:
        """Largest number of queries of an inference."""
        return max(self.runners)

    @property
    def capacity(self) -> float:
        """Queries per second with full, consecutive batches."""
        return 1e9 * self.largest / self.typical_ns[self.largest]

    def serve_round(self, qps: float, count: int, seed: int, part: int) -> ServedRound:
        """Serve a round of queries, after a lead-in and once the other network's threads are idle."""
        wait_for_rest()
        for size, runner in self.runners.items():
            runner.run(paired.repeats_for(self.typical_ns[size], paired.LEAD_IN_NS))
        arrivals = poisson_arrivals(qps, count, seed, part)
        with collector_off():
            return serve(arrivals, lambda size: self.runners[size].run(1), self.clock, tuple(self.runners))


class _NetworkRates:
    """Rates of one network: those measured, and the one to measure next."""

    def __init__(self, worker: _Worker, options: Options) -> None:
        self.worker = worker
        self.plan: RatePlan = FixedRates(options.qps) if options.qps else RateSearch(worker.capacity)
        self.records = list[RateRecord]()

    def record(self, rate: RateRecord) -> None:
        self.records.append(rate)
        self.plan.record(rate.qps, rate.outcome)

    def to_record(self, ended: str) -> ServerSide:
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


def measure_server(
    networks: NetworkPair,
    options: Options,
    single_stream: SingleStream | None,
    say: Progress,
    clock: Clock | None = None,
) -> Server:
    """Measure rates of both networks alternately.

    Args:
        networks: baseline and candidate.
        options: rates, bound and counts.
        single_stream: result of these networks, from which the bound is derived if none is given.
        say: called with the progress.
        clock: clock of the queries; None: that of the host.
    """
    monitor = ConditionsMonitor()
    with contextlib.ExitStack() as stack:
        say("warming up", 0.0)
        workers = _workers(stack, networks, options, clock or HostClock())
        bound_ms, bound_from = _bound(options, workers[0], single_stream)
        sides = [_NetworkRates(worker, options) for worker in workers]
        steps = 0
        while options.budget_s is None or monitor.seconds() < options.budget_s:
            todo = [(side, qps) for side in sides if (qps := side.plan.next()) is not None]
            if not todo:
                break
            text = " and ".join(f"{side.worker.label} at {qps:,.4g}" for side, qps in todo)
            say(f"server, {text} queries/s", 1 - 0.85**steps)
            measured = _measure_rates(todo, bound_ms, options, networks.config.seed)
            for (side, _), rate in zip(todo, measured, strict=True):
                side.record(rate)
            steps += 1
    baseline, candidate = (side.to_record("the budget is used up") for side in sides)
    (base_holds, base_fails), (holds, fails) = baseline.at_one_speed, candidate.at_one_speed
    return Server(
        bound_ms=bound_ms,
        bound_from=bound_from,
        searched=not options.qps,
        max_batch=options.max_server_batch,
        baseline=baseline,
        candidate=candidate,
        ratio=_ratio(holds, base_holds),
        ratio_low=_ratio(holds, base_fails),
        ratio_high=_ratio(fails, base_holds),
        **monitor.fields(),
    )


def _workers(
    stack: contextlib.ExitStack, networks: NetworkPair, options: Options, clock: Clock
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


def _bound(options: Options, baseline: _Worker, single_stream: SingleStream | None) -> tuple[float, str]:
    """Return the bound on the p99 in milliseconds, and its origin."""
    if options.p99_bound_ms is not None:
        return options.p99_bound_ms, "given"
    p50 = None if single_stream is None else single_stream.baseline.times.p50
    median_ms = baseline.typical_ns[1] / 1e6 if p50 is None else p50.ms
    source = "warm-up" if p50 is None else "single stream"
    origin = f"{BOUND_FACTOR} times the median of {baseline.label} in the {source}, {median_ms:.3g} ms"
    return float(f"{BOUND_FACTOR * median_ms:.3g}"), origin


def _measure_rates(
    todo: Sequence[tuple[_NetworkRates, float]], bound_ms: float, options: Options, seed: int
) -> list[RateRecord]:
    """Measure one rate of each network in alternating rounds, until decided or after `MAX_ROUNDS`."""
    rounds: list[list[ServedRound]] = [[] for _ in todo]
    records = list[RateRecord]()
    for part in range(MAX_ROUNDS):
        undecided = [i for i in range(len(todo)) if not records or records[i].outcome is Outcome.UNDECIDED]
        for i in undecided if part % 2 == 0 else reversed(undecided):
            worker, qps = todo[i][0].worker, todo[i][1]
            count = queries_per_round(qps, options.queries, worker.capacity)
            rounds[i].append(worker.serve_round(qps, count, seed, part))
        records = [
            evaluate_rate(
                qps,
                rounds[i],
                bound_ms,
                largest=side.worker.largest,
                full_ns=side.worker.typical_ns[side.worker.largest],
            )
            for i, (side, qps) in enumerate(todo)
        ]
        if all(entry.outcome is not Outcome.UNDECIDED for entry in records):
            break
    return records


def _ratio(numerator: float | None, denominator: float | None) -> float | None:
    return None if numerator is None or denominator is None else numerator / denominator
