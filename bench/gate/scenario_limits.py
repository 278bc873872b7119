"""Values of the limits on scenarios, and the stored result of the other kind."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path

from compress.bench.protocol.stats import PERCENTILE_NEEDS
from compress.bench.results import record
from compress.bench.results.record import BenchResult
from compress.bench.results.value_range import BUSY, ValueRange
from compress.bench.scenarios import record as scenario_record
from compress.bench.scenarios.latency_summary import Percentile
from compress.bench.scenarios.options import Scenario
from compress.bench.scenarios.record import Conditions, ScenarioComparison, ScenarioResult
from compress.bench.scenarios.sentences import format_rate
from compress.core.errors import CompressError

_log = logging.getLogger(__name__)


def find_companion_result(
    result: BenchResult | ScenarioResult, place: Path
) -> BenchResult | ScenarioResult | None:
    """Return the stored result of the other kind in the same folder, if measured on the same machine.

    Args:
        result: a paired comparison, or scenarios.
        place: its run folder or file.
    """
    folder = place / "bench" if place.is_dir() else place.parent
    is_scenarios = isinstance(result, ScenarioResult)
    file = folder / (record.FILENAME if is_scenarios else scenario_record.FILENAME)
    if not file.is_file():
        return None
    try:
        other = record.read(file) if is_scenarios else scenario_record.read(file)
    except CompressError as error:
        _log.warning("%s; the file is ignored", error.message)
        return None
    return other if other.machine == result.machine else None


def _busy(conditions: Conditions) -> str:
    share = conditions.others_load
    if share <= BUSY:
        return ""
    return f"other processes used {share:.0%} of the processors, so times are too long"


def _missing(scenario: str) -> ValueRange:
    return ValueRange(
        reason=f"the scenario was not measured: run `compress bench scenario RUN --scenario {scenario}`"
    )


def _percentile(comparison: ScenarioComparison, q: int) -> ValueRange:
    if comparison.single_stream is None:
        return _missing("single-stream")
    times = comparison.single_stream.candidate.times
    percentile: Percentile | None = {90: times.p90, 99: times.p99}[q]
    if percentile is None:
        return ValueRange(
            reason=f"p{q} needs {PERCENTILE_NEEDS[q]:,} samples and has {times.count:,}: measure longer"
        )
    high = math.inf if percentile.high_ms is None else percentile.high_ms
    reason = f"{times.count:,} queries of a single stream"
    return ValueRange(percentile.ms, percentile.low_ms, high, reason, _busy(comparison.single_stream))


def _throughput(comparison: ScenarioComparison) -> ValueRange:
    if comparison.offline is None:
        return _missing("offline")
    best = comparison.offline.best[1]
    high = math.inf if best.high is None else best.high
    reason = f"batch {best.batch:,}, {best.count:,} inferences"
    return ValueRange(best.images_per_s, best.low, high, reason, _busy(comparison.offline))


def _rate(comparison: ScenarioComparison) -> ValueRange:
    """Return the range of the largest rate, between the rates that meet and exceed the bound.

    The range covers the rates as measured and corrected to one speed of the machine.
    """
    server = comparison.server
    if server is None:
        return _missing("server")
    side, bound = server.candidate, f"bound on the p99 {server.bound_ms:g} ms"
    if side.holds_qps is None and side.fails_qps is None:
        return ValueRange(
            reason=f"no rate could be decided ({bound}): measure longer, or with more --queries"
        )
    holds, fails = side.at_one_speed
    low = 0.0 if side.holds_qps is None or holds is None else min(side.holds_qps, holds)
    high = math.inf
    if side.fails_qps is not None and fails is not None:
        high = math.nextafter(max(side.fails_qps, fails), 0)
    reason = f"{bound}: " + ", ".join(
        f"{format_rate(qps)} queries/s {what}"
        for qps, what in ((side.holds_qps, "meet it"), (side.fails_qps, "exceed it"))
        if qps is not None
    )
    return ValueRange(side.holds_qps, low, high, reason, _busy(server))


SCENARIO_VALUES: dict[str, Callable[[ScenarioComparison], ValueRange]] = {
    "single_stream_p90_max_ms": lambda comparison: _percentile(comparison, 90),
    "single_stream_p99_max_ms": lambda comparison: _percentile(comparison, 99),
    "offline_images_per_s_min": _throughput,
    "server_qps_min": _rate,
}
"""Functions that return the value of each limit on a scenario."""

WITHIN_2_PERCENT = frozenset(SCENARIO_VALUES) - {"server_qps_min"}
"""Limits whose values are widened to 2% (`compress.bench.protocol.stats.SAME_WITHIN`). The range of a rate
comes from decided rates and is not widened."""


def not_measured(constraint: str) -> ValueRange:
    """Return the missing value of a limit whose scenario was not measured."""
    name = next(s for s in Scenario if constraint.startswith(s.replace("-", "_")))
    return _missing(name)
