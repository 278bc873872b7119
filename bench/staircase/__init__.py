"""Measure the latency of a network's layers over their width: a table and a figure.

Latency falls in steps ("staircase") as a layer gets narrower, since runtimes compute blocks of channels. The
table is read by `compress.cost.LatencyTable`.
"""

from __future__ import annotations

from compress.bench.staircase.pipeline import StaircaseResult, measure_staircase
from compress.bench.staircase.render import render_staircase

__all__ = ["StaircaseResult", "measure_staircase", "render_staircase"]
