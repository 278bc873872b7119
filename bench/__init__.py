"""Benchmarks: the speed-up of a compact model on this machine, measured in pairs and judged against noise.

Reading order: `pipeline` (a whole benchmark), `backends/` (one file per runtime), `protocol/` (order of
measuring, statistics, processes), `results/` (record, tables, comparison of two results). `explain/`,
`staircase/` and `scenarios/` are further measurements, `gate/` checks limits, `report/` writes the HTML page,
and `comparison/` trains and measures several methods side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.core.lazy import lazy_attributes

if TYPE_CHECKING:
    from compress.bench.backends import BACKENDS, list_backends
    from compress.bench.bench_setup import BackendOptions
    from compress.bench.comparison.pipeline import compare
    from compress.bench.pipeline import bench
    from compress.bench.protocol.stats import Verdict
    from compress.bench.results.record import BenchResult, read
    from compress.bench.results.table import SummaryRow, render_bench_table, summary_row, summary_rows

_HOMES = {
    "BACKENDS": "backends",
    "list_backends": "backends",
    "BenchResult": "results.record",
    "BackendOptions": "bench_setup",
    "SummaryRow": "results.table",
    "Verdict": "protocol.stats",
    "bench": "pipeline",
    "compare": "comparison.pipeline",
    "read": "results.record",
    "summary_row": "results.table",
    "summary_rows": "results.table",
    "render_bench_table": "results.table",
}

__all__ = [
    "BACKENDS",
    "BackendOptions",
    "BenchResult",
    "SummaryRow",
    "Verdict",
    "bench",
    "compare",
    "list_backends",
    "read",
    "render_bench_table",
    "summary_row",
    "summary_rows",
]

__getattr__ = lazy_attributes(__name__, _HOMES)
