"""Benchmarking: what a narrow network buys on this machine, measured in pairs and judged against the noise.

Enters here: back ends that time a network (`compress.bench.backends`), the order of measuring, the statistics, the
record and its tables, and the explanation of what was lost (`compress.bench.explain`). Nothing here trains or changes
a network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.core.lazy import lazy_attributes

if TYPE_CHECKING:
    from compress.bench.bench_setup import BackendOptions
    from compress.bench.comparison.pipeline import compare
    from compress.bench.pipeline import bench
    from compress.bench.protocol.stats import Verdict
    from compress.bench.results.record import BenchResult, read
    from compress.bench.results.table import SummaryRow, summary_row, summary_rows, table

_HOMES = {
    "BenchResult": "results.record",
    "BackendOptions": "bench_setup",
    "SummaryRow": "results.table",
    "Verdict": "protocol.stats",
    "bench": "pipeline",
    "compare": "comparison.pipeline",
    "read": "results.record",
    "summary_row": "results.table",
    "summary_rows": "results.table",
    "table": "results.table",
}

__all__ = [
    "BackendOptions",
    "BenchResult",
    "SummaryRow",
    "Verdict",
    "bench",
    "compare",
    "read",
    "summary_row",
    "summary_rows",
    "table",
]

__getattr__ = lazy_attributes(__name__, _HOMES)
