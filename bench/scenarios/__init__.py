"""Scenarios named as MLPerf Inference names them: single stream, offline, server.

They say what a deployed network does rather than what one inference takes: the latency of queries that come
one after the other, the throughput at the best batch size that fits into memory, and the largest rate of
queries arriving at random at which the 99th percentile of the latency stays under a bound. The rules are
MLPerf's in kind, not its conformance run: counts are smaller and stated, and there is no LoadGen.

What may enter: a scenario's order of measuring, its statistics, its record and table. Runners, the pairing of
two networks and the process of its own are `bench`'s.
"""

from __future__ import annotations

from compress.bench.scenarios.options import Options, Scenario, asked, options
from compress.bench.scenarios.pipeline import run_scenarios
from compress.bench.scenarios.record import ScenarioResult, is_stored, read
from compress.bench.scenarios.table import table

__all__ = [
    "Options",
    "Scenario",
    "ScenarioResult",
    "asked",
    "is_stored",
    "options",
    "read",
    "run_scenarios",
    "table",
]
