"""Measure scenarios on one back end; runs in a process of its own, see `compress.bench.protocol.child`."""

from __future__ import annotations

from compress.bench.backends import RunConfig, require_backend
from compress.bench.protocol.worker import Progress, Side
from compress.bench.scenarios.network_pair import NetworkPair
from compress.bench.scenarios.offline import measure_offline
from compress.bench.scenarios.options import Options, Scenario
from compress.bench.scenarios.record import ScenarioMeasurements
from compress.bench.scenarios.server import measure_server
from compress.bench.scenarios.single_stream import measure_single_stream
from compress.core.spec import Record


class Job(Record):
    """Input of one measuring process.

    Attributes:
        backend: name of the back end.
        config: settings of the sessions, for a batch of 1.
        comparisons: baseline and candidate of each comparison.
        options: scenarios to measure.
    """

    backend: str
    config: RunConfig
    comparisons: tuple[tuple[Side, Side], ...]
    options: Options


def run_job(job: Job, say: Progress) -> tuple[ScenarioMeasurements, ...]:
    """Measure every scenario of every comparison.

    Raises:
        CompressError: the back end cannot run here, or cannot run a network with these settings.
    """
    for side in dict.fromkeys(side for pair in job.comparisons for side in pair if side.given):
        say(f"{job.backend}: checking {side.label}", 0.0)
        require_backend(job.backend, job.config).load(side.path, job.config).close()
    count = len(job.comparisons)
    return tuple(
        _measure_pair(
            job,
            NetworkPair(job.backend, job.config, *pair),
            _subprogress(say, job.backend, i / count, 1 / count),
        )
        for i, pair in enumerate(job.comparisons)
    )


def _measure_pair(job: Job, networks: NetworkPair, say: Progress) -> ScenarioMeasurements:
    scenarios, options = job.options.scenarios, job.options

    def part(scenario: Scenario) -> Progress:
        start, length = scenarios.index(scenario) / len(scenarios), 1 / len(scenarios)
        return _subprogress(say, networks.candidate.label, start, length)

    with networks.loaded(1) as runners:
        session = runners[0].settings
    single_stream = offline = server = None
    if Scenario.SINGLE_STREAM in scenarios:
        single_stream = measure_single_stream(networks, options, part(Scenario.SINGLE_STREAM))
    if Scenario.OFFLINE in scenarios:
        offline = measure_offline(networks, options, part(Scenario.OFFLINE))
    if Scenario.SERVER in scenarios:
        server = measure_server(networks, options, single_stream, part(Scenario.SERVER))
    return ScenarioMeasurements(
        timed=require_backend(job.backend, job.config).describe_timing(job.config),
        session=session,
        single_stream=single_stream,
        offline=offline,
        server=server,
    )


def _subprogress(say: Progress, name: str, start: float, length: float) -> Progress:
    return lambda what, done: say(f"{name}: {what}", start + length * done)
