"""Benchmarking: what a narrow network buys on this machine, measured in pairs and judged against the noise.

Enters here: back ends that time a network (`bench.runners`), the order of measuring, the statistics, the
record and its tables, and the explanation of what was lost (`bench.explain`). Nothing here trains or changes
a network.
"""

from __future__ import annotations

from bench.asked import Choices
from bench.explain.pipeline import explain
from bench.pipeline import bench
from bench.record import BenchResult, read
from bench.stats import Verdict
from bench.table import SummaryRow, summary_row, summary_rows, table

__all__ = [
    "BenchResult",
    "Choices",
    "SummaryRow",
    "Verdict",
    "bench",
    "explain",
    "read",
    "summary_row",
    "summary_rows",
    "table",
]
