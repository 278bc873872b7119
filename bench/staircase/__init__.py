"""The staircase: what each layer takes at many widths on this back end, as a table and a figure.

Enters here: layers as networks of their own, the order of timing them, the table that is written. What reads
the table is `compress.cost.LatencyTable`.
"""

from __future__ import annotations

from compress.bench.staircase.pipeline import Staircase, staircase
from compress.bench.staircase.show import table

__all__ = ["Staircase", "staircase", "table"]
