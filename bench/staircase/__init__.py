"""Measure the latency of a network's layers over their width: a table and a figure.

Latency falls in steps ("staircase") as a layer gets narrower, since runtimes compute blocks of channels. The
table is read by `compress.cost.LatencyTable`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.core.lazy import lazy_attributes

if TYPE_CHECKING:
    from compress.bench.staircase.pipeline import StaircaseResult, measure_staircase
    from compress.bench.staircase.render import render_staircase

__all__ = ["StaircaseResult", "measure_staircase", "render_staircase"]

__getattr__ = lazy_attributes(
    __name__,
    {"StaircaseResult": "pipeline", "measure_staircase": "pipeline", "render_staircase": "render"},
)
