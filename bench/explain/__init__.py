"""Why a narrow network is, or is not, as much faster as its MACs promise: layer by layer, with the causes.

Enters here: profiles of a back end mapped onto the network's layers, the machine's roofline, the account of
what was lost where, and the evidence for each cause. What a time is and how pairs are measured is in
`compress.bench.protocol.paired`; a runtime's own profiler is one file in `compress.bench.explain.profilers`.
"""

from __future__ import annotations

from compress.bench.explain.pipeline import explain
from compress.bench.explain.record import Cause, Explanation, read
from compress.bench.explain.table import table

__all__ = ["Cause", "Explanation", "explain", "read", "table"]
