"""What a gate asks of the scenarios, and the result that lies beside the one that is judged."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path

from compress.bench.protocol.stats import PERCENTILE_NEEDS
from compress.bench.results import record
from compress.bench.results.record import BenchResult
from compress.bench.results.value_range import BUSY, Possible
from compress.bench.scenarios import record as scenario_record
from compress.bench.scenarios.latency_summary import Percentile
from compress.bench.scenarios.options import Scenario
from compress.bench.scenarios.record import Conditions, ScenarioComparison, ScenarioResult
from compress.bench.scenarios.sentences import format_rate
from compress.core.errors import CompressError

_log = logging.getLogger(__name__)


def beside(result: BenchResult | ScenarioResult, place: Path) -> BenchResult | ScenarioResult | None:
    """Return the stored result of the other kind that lies beside one, made on the same machine; else None.

    Args:
        result: the paired comparison or the scenarios.
        place: the run folder or the file it is of.
    """
    folder = place / "bench" if place.is_dir() else place.parent
    is_scenarios = isinstance(result, ScenarioResult)
    file = folder / (record.FILENAME if is_scenarios else scenario_record.FILENAME)
    if not file.is_file():
        return None
    try:
        other = record.read(file) if is_scenarios else scenario_record.read(file)
    except CompressError as error:
        _log.warning("%s; it is not used", error.message)
        return None
    return other if other.machine == result.machine else None


def _busy(found: Conditions) -> str:
    share = found.others_load
    return (
        f"other processes took {share:.0%} of the processors, so times are too long" if share > BUSY else ""
    )


def _missing(scenario: str) -> Possible:
    return Possible(reason=f"the scenario was not measured: compress bench RUN --scenario {scenario}")


def _percentile(of: ScenarioComparison, q: int) -> Possible:
    if of.single_stream is None:
        return _missing("single-stream")
    taken = of.single_stream.candidate.times
    found: Percentile | None = {90: taken.p90, 99: taken.p99}[q]
    if found is None:
        return Possible(
            reason=f"p{q} needs {PERCENTILE_NEEDS[q]:,} samples and has {taken.count:,}: measure longer"
        )
    high = math.inf if found.high_ms is None else found.high_ms
    return Possible(
        found.ms, found.low_ms, high, f"{taken.count:,} queries of a single stream", _busy(of.single_stream)
    )


def _throughput(of: ScenarioComparison) -> Possible:
    if of.offline is None:
        return _missing("offline")
    best = of.offline.best[1]
    high = math.inf if best.high is None else best.high
    reason = f"batch {best.batch:,}, {best.count:,} inferences"
    return Possible(best.images_per_s, best.low, high, reason, _busy(of.offline))


def _rate(of: ScenarioComparison) -> Possible:
    """The largest format_rate lies from the largest that holds up to, but without, the smallest that fails.

    As they were seen or at one speed of the machine, whichever leaves more possible.
    """
    if of.server is None:
        return _missing("server")
    side, bound = of.server.candidate, f"p99 within {of.server.bound_ms:g} ms"
    if side.holds_qps is None and side.fails_qps is None:
        return Possible(reason=f"no rate could be decided ({bound}): measure longer, or with --queries")
    holds, fails = side.at_one_speed
    low = 0.0 if side.holds_qps is None or holds is None else min(side.holds_qps, holds)
    high = math.inf
    if side.fails_qps is not None and fails is not None:
        high = math.nextafter(max(side.fails_qps, fails), 0)
    reason = f"{bound}: " + ", ".join(
        f"{format_rate(qps)} queries/s {what}"
        for qps, what in ((side.holds_qps, "hold"), (side.fails_qps, "do not"))
        if qps is not None
    )
    return Possible(side.holds_qps, low, high, reason, _busy(of.server))


SCENARIOS: dict[str, Callable[[ScenarioComparison], Possible]] = {
    "single_stream_p90_max_ms": lambda of: _percentile(of, 90),
    "single_stream_p99_max_ms": lambda of: _percentile(of, 99),
    "offline_images_per_s_min": _throughput,
    "server_qps_min": _rate,
}
"""How each constraint is found that speaks of a scenario."""

WITHIN_2_PERCENT = frozenset(SCENARIOS) - {"server_qps_min"}
"""Those that are judged with the 2% of `compress.bench.protocol.stats.SAME_WITHIN`; a rate was decided by its own interval."""


def unmeasured(constraint: str) -> Possible:
    """Return that a result has none of the scenarios."""
    name = next(s for s in Scenario if constraint.startswith(s.replace("-", "_")))
    return _missing(name)
