"""Measuring the scenarios of comparisons on one back end; runs in a process of its own, see `compress.bench.protocol.child`."""

from __future__ import annotations

from compress.bench.backends import RunConfig, usable
from compress.bench.protocol.measure import Progress, Side
from compress.bench.scenarios.loaded import Networks
from compress.bench.scenarios.offline import offline
from compress.bench.scenarios.options import Options, Scenario
from compress.bench.scenarios.record import Found
from compress.bench.scenarios.server import server
from compress.bench.scenarios.stream import single_stream
from compress.core.spec import Record


class Job(Record):
    """What one process measures.

    Attributes:
        backend: name of the back end. config: of a batch of 1.
        comparisons: baseline and candidate of each.
    """

    backend: str
    config: RunConfig
    comparisons: tuple[tuple[Side, Side], ...]
    options: Options


def measure(job: Job, say: Progress) -> tuple[Found, ...]:
    """Measure every scenario of every comparison.

    Raises:
        CompressError: the back end cannot run here, or not these networks as configured.
    """
    for side in dict.fromkeys(side for two in job.comparisons for side in two if side.given):
        say(f"{job.backend}: looking at {side.label}", 0.0)
        usable(job.backend, job.config).load(side.path, job.config).close()
    count = len(job.comparisons)
    return tuple(
        _compared(job, Networks(job.backend, job.config, *two), _part(say, job.backend, i / count, 1 / count))
        for i, two in enumerate(job.comparisons)
    )


def _compared(job: Job, networks: Networks, say: Progress) -> Found:
    wanted, options = job.options.scenarios, job.options

    def part(scenario: Scenario) -> Progress:
        return _part(say, networks.candidate.label, wanted.index(scenario) / len(wanted), 1 / len(wanted))

    with networks.loaded(1) as runners:
        session = runners[0].settings
    stream = swept = served = None
    if Scenario.SINGLE_STREAM in wanted:
        stream = single_stream(networks, options, part(Scenario.SINGLE_STREAM))
    if Scenario.OFFLINE in wanted:
        swept = offline(networks, options, part(Scenario.OFFLINE))
    if Scenario.SERVER in wanted:
        served = server(networks, options, stream, part(Scenario.SERVER))
    return Found(
        timed=usable(job.backend, job.config).timed(job.config),
        session=session,
        single_stream=stream,
        offline=swept,
        server=served,
    )


def _part(say: Progress, name: str, start: float, length: float) -> Progress:
    return lambda what, done: say(f"{name}: {what}", start + length * done)
