"""A gate: what a result must hold to be let through, judged by its intervals and its noise floor.

What may enter: reading the file of constraints, judging a stored or fresh result by it, and telling people
and pipelines. Nothing here measures.
"""

from __future__ import annotations

from compress.bench.gate.judge import Check, GateResult, Outcome, foresee, judge
from compress.bench.gate.report import junit, table, to_json, verdict, write_junit
from compress.bench.gate.rules import Constraints, Gate, Rule, read
from compress.bench.gate.scenarios import beside

__all__ = [
    "Check",
    "Constraints",
    "Gate",
    "GateResult",
    "Outcome",
    "Rule",
    "beside",
    "foresee",
    "judge",
    "junit",
    "read",
    "table",
    "to_json",
    "verdict",
    "write_junit",
]
