"""Single stream: one query at a time, the next one when the last is answered; the two networks in turns."""

from __future__ import annotations

import math

from compress.bench.protocol import paired
from compress.bench.protocol.measure import Progress
from compress.bench.protocol.paired import WarmUp
from compress.bench.protocol.stats import PERCENTILE_NEEDS
from compress.bench.results import record
from compress.bench.scenarios.loaded import Networks, Watch
from compress.bench.scenarios.options import Options
from compress.bench.scenarios.record import SingleStream, StreamSide
from compress.bench.scenarios.times import times

MIN_REPEATS = 10
"""Fewest queries of one measurement, so that most of them follow another one of the same network."""

PROTOCOL = (
    "one query at a time, batch 1, the next when the last is answered, after a warm-up; baseline and "
    "candidate take turns in ABBA blocks; at least 1,000 queries of each where no budget is given; "
    "percentiles with 95% intervals over the measurements of about 20 ms (MLPerf's metric is the p90); "
    "speed-up: the median of the pairs' ratios with a 95% bootstrap interval; all in one process: how "
    "another process would differ is not in the intervals"
)


def single_stream(networks: Networks, options: Options, say: Progress) -> SingleStream:
    """Measure both networks; without a budget until each has the queries that a p99 needs."""
    watch = Watch()
    with networks.loaded(1) as runners:
        say("warming up", 0.0)
        warm = [paired.warm_up(runner) for runner in runners]
        measure_ns = max(paired.MEASURE_NS, round(MIN_REPEATS * max(one.typical_ns for one in warm)))
        fewest = min(paired.repeats_for(one.typical_ns, measure_ns) for one in warm)
        found = paired.compare(
            *runners,
            typical_ns=(warm[0].typical_ns, warm[1].typical_ns),
            pairs=max(options.pairs, math.ceil(PERCENTILE_NEEDS[99] / fewest)),
            budget_s=options.budget_s,
            measure_ns=measure_ns,
            seed=networks.config.seed,
            report=lambda done: say("single stream", 0.1 + 0.9 * done),
        )

    def side(i: int, warm: WarmUp) -> StreamSide:
        repeats = found.repeats[i]
        return StreamSide(
            label=networks.sides[i].label,
            settled=warm.settled,
            first_ms=warm.first_ns / 1e6,
            repeats=repeats,
            times=times((found.a_ns, found.b_ns)[i].reshape(-1, repeats)),
        )

    return SingleStream(
        baseline=side(0, warm[0]),
        candidate=side(1, warm[1]),
        speedup=record.ratio_record(found.ratio),
        **watch.said(),
    )
