"""Scenarios named after MLPerf Inference: single stream, offline, server.

They measure how a deployed network behaves: the latency of queries sent one after the other, the throughput
at the best batch size that fits into memory, and the largest rate of randomly arriving queries whose
99th-percentile latency stays within a bound. The rules follow MLPerf, but this is not a conformance run:
counts are smaller and recorded, and LoadGen is not used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.core.lazy import lazy_attributes

if TYPE_CHECKING:
    from compress.bench.scenarios.options import Options, Scenario, make_options, options_from_flags
    from compress.bench.scenarios.pipeline import run_scenarios
    from compress.bench.scenarios.record import ScenarioResult, is_stored, read
    from compress.bench.scenarios.render import render_scenarios

__all__ = [
    "Options",
    "Scenario",
    "ScenarioResult",
    "is_stored",
    "make_options",
    "options_from_flags",
    "read",
    "render_scenarios",
    "run_scenarios",
]

__getattr__ = lazy_attributes(
    __name__,
    {
        "Options": "options",
        "Scenario": "options",
        "ScenarioResult": "record",
        "is_stored": "record",
        "make_options": "options",
        "options_from_flags": "options",
        "read": "record",
        "render_scenarios": "render",
        "run_scenarios": "pipeline",
    },
)
