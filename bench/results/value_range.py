"""Range of a measured value: its 95% interval, widened to at least the noise floor of the machine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from compress.bench.protocol.stats import PERCENTILE_NEEDS
from compress.bench.results.record import BatchRecord, RatioRecord

BUSY = 0.1
"""Load by other processes, as a share of all processors, above which times are too long."""


@dataclass(frozen=True)
class ValueRange:
    """A value with its range, or the reason why it is unknown.

    Attributes:
        value: None if it was not measured.
        low, high: its range; None if unknown; `high` may be infinite.
        reason: how the range was determined, or why there is none.
        too_high: why the true value may be below the range; empty if it cannot.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""
    too_high: str = ""


def exact_value(value: float, reason: str) -> ValueRange:
    """Return a value that is known exactly, such as a count."""
    return ValueRange(value, value, value, reason)


def ratio(record: RatioRecord | None, floor: float, scale: float = 1.0) -> ValueRange:
    """Return the range of a measured speed ratio, multiplied by `scale`."""
    if record is None:
        return ValueRange(reason="the back end does not report device times")
    sessions = f" in {record.sessions} sessions" if record.sessions > 1 else ""
    return ValueRange(
        record.ratio * scale,
        min(record.low, record.ratio * math.exp(-floor)) * scale,
        max(record.high, record.ratio * math.exp(floor)) * scale,
        f"{record.pairs} pairs{sessions}, noise floor {floor:.1%}",
    )


def time_ms(entry: BatchRecord, q: Literal[50, 99]) -> ValueRange:
    """Return the range of a percentile of the candidate's times, milliseconds of a batch."""
    side, needs = entry.candidate, PERCENTILE_NEEDS[q]
    value, ends = (side.p50_ms, side.p50_ends_ms) if q == 50 else (side.p99_ms, side.p99_ends_ms)
    if value is None:
        pairs = 2 * math.ceil(needs / side.repeats / 2)
        return ValueRange(
            reason=f"p{q} needs {needs:,} samples and has {side.count:,}: give --pairs {pairs}, or a --budget"
        )
    if ends is None:
        return ValueRange(value, reason=f"the result has no interval of p{q}: measure again")
    busy = f"other processes used {entry.others_load:.0%} of the processors, so times are too long"
    return ValueRange(
        value,
        min(ends[0], value * math.exp(-entry.floor)),
        max(math.inf if ends[1] is None else ends[1], value * math.exp(entry.floor)),
        f"{side.count:,} samples, noise floor {entry.floor:.1%}",
        busy if entry.others_load > BUSY else "",
    )
