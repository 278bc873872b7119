"""Quality gate: limits in a TOML file that a benchmark result must meet, for CI pipelines.

A limit is evaluated with the interval and the noise floor of the measurement: it passes, fails, or is
inconclusive. Nothing is measured here.
"""

from __future__ import annotations

from compress.bench.gate.evaluation import GateResult, LimitResult, Outcome, check_rules_apply, evaluate_gate
from compress.bench.gate.limits import Limits, QualityGate, Rule, read
from compress.bench.gate.render import render_gate, render_junit, summary_lines, to_json, write_junit
from compress.bench.gate.scenario_limits import find_companion_result

__all__ = [
    "GateResult",
    "LimitResult",
    "Limits",
    "Outcome",
    "QualityGate",
    "Rule",
    "check_rules_apply",
    "evaluate_gate",
    "find_companion_result",
    "read",
    "render_gate",
    "render_junit",
    "summary_lines",
    "to_json",
    "write_junit",
]
