"""Single-stream scenario: one query at a time, each sent when the last is answered."""

from __future__ import annotations

import math

from compress.bench.protocol import paired
from compress.bench.protocol.paired import WarmUp
from compress.bench.protocol.stats import PERCENTILE_NEEDS
from compress.bench.protocol.worker import Progress
from compress.bench.results import record
from compress.bench.scenarios.latency_summary import summarize_latencies
from compress.bench.scenarios.network_pair import ConditionsMonitor, NetworkPair
from compress.bench.scenarios.options import Options
from compress.bench.scenarios.record import SingleStream, StreamSide

MIN_REPEATS = 10
"""Fewest queries of one measurement, so that most of them follow another query of the same network."""

PROTOCOL = (
    "one query at a time, batch 1, each sent when the last is answered, after a warm-up; baseline and "
    "candidate alternate in ABBA blocks; at least 1,000 queries of each if no budget is given; percentiles "
    "with 95% intervals over measurements of about 20 ms (the metric of MLPerf is the p90); speed-up: median "
    "ratio of the pairs with a 95% bootstrap interval; all in one process: variation between processes is "
    "not in the intervals"
)


def measure_single_stream(networks: NetworkPair, options: Options, say: Progress) -> SingleStream:
    """Measure both networks; without a budget, until both have the queries that a p99 needs."""
    monitor = ConditionsMonitor()
    with networks.loaded(1) as runners:
        say("warming up", 0.0)
        warm = [paired.warm_up(runner) for runner in runners]
        measure_ns = max(paired.MEASURE_NS, round(MIN_REPEATS * max(one.typical_ns for one in warm)))
        fewest = min(paired.repeats_for(one.typical_ns, measure_ns) for one in warm)
        pairs = paired.compare_in_pairs(
            *runners,
            typical_ns=(warm[0].typical_ns, warm[1].typical_ns),
            pairs=max(options.pairs, math.ceil(PERCENTILE_NEEDS[99] / fewest)),
            budget_s=options.budget_s,
            measure_ns=measure_ns,
            seed=networks.config.seed,
            report=lambda done: say("single stream", 0.1 + 0.9 * done),
        )

    def side(i: int, warm: WarmUp) -> StreamSide:
        repeats = pairs.repeats[i]
        return StreamSide(
            label=networks.sides[i].label,
            settled=warm.settled,
            first_ms=warm.first_ns / 1e6,
            repeats=repeats,
            times=summarize_latencies((pairs.a_ns, pairs.b_ns)[i].reshape(-1, repeats)),
        )

    return SingleStream(
        baseline=side(0, warm[0]),
        candidate=side(1, warm[1]),
        speedup=record.ratio_record(pairs.ratio),
        **monitor.fields(),
    )
