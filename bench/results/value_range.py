"""What a measured value may really be: its 95% interval, and at least the machine's noise floor around it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from compress.bench.protocol.stats import PERCENTILE_NEEDS
from compress.bench.results.record import BatchRecord, RatioRecord

BUSY = 0.1
"""Share of the processors from which on what other processes take spoils a time."""


@dataclass(frozen=True)
class Possible:
    """A value with its range, or why there is none.

    Attributes:
        value: None where it was not measured.
        low, high: its range; None where it is not known; `high` may be infinite.
        reason: what the range rests on, or why there is none.
        too_high: why the true value may be lower still; empty where it may not.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""
    too_high: str = ""


def exactly(value: float, reason: str) -> Possible:
    """Return what was counted and not measured."""
    return Possible(value, value, value, reason)


def ratio(found: RatioRecord | None, floor: float, scale: float = 1.0) -> Possible:
    """Return the range of a speed ratio, times `scale`."""
    if found is None:
        return Possible(reason="the back end has no clock of a device")
    sessions = f" in {found.sessions} sessions" if found.sessions > 1 else ""
    return Possible(
        found.ratio * scale,
        min(found.low, found.ratio * math.exp(-floor)) * scale,
        max(found.high, found.ratio * math.exp(floor)) * scale,
        f"{found.pairs} pairs{sessions}, noise floor {floor:.1%}",
    )


def time_ms(entry: BatchRecord, q: Literal[50, 99]) -> Possible:
    """Return the range of a percentile of the candidate's times, milliseconds of a batch."""
    side, needs = entry.candidate, PERCENTILE_NEEDS[q]
    value, ends = (side.p50_ms, side.p50_ends_ms) if q == 50 else (side.p99_ms, side.p99_ends_ms)
    if value is None:
        pairs = 2 * math.ceil(needs / side.repeats / 2)
        return Possible(
            reason=f"p{q} needs {needs:,} samples and has {side.count:,}: --pairs {pairs}, or a --budget"
        )
    if ends is None:
        return Possible(value, reason=f"the result has no interval of p{q}: measure again")
    busy = f"other processes took {entry.others_load:.0%} of the processors, so times are too long"
    return Possible(
        value,
        min(ends[0], value * math.exp(-entry.floor)),
        max(math.inf if ends[1] is None else ends[1], value * math.exp(entry.floor)),
        f"{side.count:,} samples, noise floor {entry.floor:.1%}",
        busy if entry.others_load > BUSY else "",
    )
