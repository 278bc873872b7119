"""Two stored results side by side: what changed, and what must not be compared since more than that differs.

The two were not measured in pairs. So a time is called worse or better only where the ranges, each at least
its noise floor wide, lie more than 2% apart, and only between results of one machine in one configuration.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from compress.bench.protocol.stats import SAME_WITHIN
from compress.bench.results.record import BatchRecord, BenchResult, ComparisonRecord
from compress.bench.results.value_range import ValueRange, exact_value, ratio, time_ms
from compress.core.spec import Record


class Change(StrEnum):
    """What the second result says against the first."""

    REGRESSION = "REGRESSION"
    IMPROVEMENT = "IMPROVEMENT"
    SAME = "SAME"
    UNCLEAR = "UNCLEAR"
    NOT_COMPARABLE = "NOT COMPARABLE"


class Difference(Record):
    """Something other than the networks that differs between two results."""

    what: str
    first: str
    second: str


class DiffRow(Record):
    """One quantity of one candidate in both results.

    Attributes:
        batch: None for what does not depend on it.
        first, second: values; None where one was not measured.
        first_range, second_range: what they may be; an end of None is open.
        ratio: second over first.
    """

    backend: str
    candidate: str
    batch: int | None
    quantity: str
    first: float | None
    second: float | None
    first_range: tuple[float | None, float | None]
    second_range: tuple[float | None, float | None]
    ratio: float | None
    change: Change
    reason: str


class Diff(Record):
    """Everything two results say about each other.

    Attributes:
        differs: what forbids to compare times; empty where nothing does.
        only_first, only_second: comparisons that the other one has not.
    """

    schema_version: int = 1
    kind: Literal["compress-bench-diff"] = "compress-bench-diff"
    first: str
    second: str
    differs: tuple[Difference, ...]
    rows: tuple[DiffRow, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]


Key = tuple[str, str, str, int]


def diff(first: BenchResult, second: BenchResult, names: tuple[str, str] = ("first", "second")) -> Diff:
    """Compare two results by back end, baseline, candidate and batch size.

    Args:
        first, second: the older and the newer one.
        names: what they are called.
    """
    general = tuple(_general(first, second))
    a, b = _entries(first), _entries(second)
    differs, rows, seen = list(general), list[DiffRow](), set[tuple[str, str, str]]()
    for key in (key for key in a if key in b):
        own = () if key[:3] in seen else tuple(_own(a[key][0], b[key][0]))
        if key[:3] not in seen:
            seen.add(key[:3])
            differs += [entry for entry in own if entry not in differs]
            rows += _counted(a[key][0], b[key][0])
        apart = [*general, *_own(a[key][0], b[key][0])]
        rows += _timed(key, a[key][1], b[key][1], [entry.what for entry in apart])
    return Diff(
        first=names[0],
        second=names[1],
        differs=tuple(differs),
        rows=tuple(rows),
        only_first=tuple(_said(key) for key in a if key not in b),
        only_second=tuple(_said(key) for key in b if key not in a),
    )


def _entries(result: BenchResult) -> dict[Key, tuple[ComparisonRecord, BatchRecord]]:
    return {
        (found.backend, found.baseline.label, found.candidate.label, entry.batch): (found, entry)
        for found in result.comparisons
        for entry in found.batches
    }


def _said(key: Key) -> str:
    return f"{key[2]} against {key[1]} on {key[0]}, batch {key[3]}"


# --- what differs ---------------------------------------------------------------------------------------


def _general(a: BenchResult, b: BenchResult) -> Iterator[Difference]:
    """What differs of machine, configuration and versions."""
    yield from _apart("machine: ", a.machine.model_dump(), b.machine.model_dump())
    yield from _apart("", {"threads": a.threads}, {"threads": b.threads})
    yield from _apart("", {"governor": a.before.governor}, {"governor": b.before.governor})
    yield from _apart("version of ", a.versions, b.versions)
    yield from _apart("", {"protocol": a.protocol}, {"protocol": b.protocol})


def _own(a: ComparisonRecord, b: ComparisonRecord) -> Iterator[Difference]:
    """What differs of one back end's session."""
    yield from _apart(f"{a.backend}: ", {"timed": a.timed}, {"timed": b.timed})
    yield from _apart(f"{a.backend}: ", a.session, b.session)


def _apart(prefix: str, a: Mapping[str, object], b: Mapping[str, object]) -> Iterator[Difference]:
    for key in dict.fromkeys((*a, *b)):
        one, other = a.get(key), b.get(key)
        if one != other:
            yield Difference(what=f"{prefix}{key}", first=_word(one), second=_word(other))


def _word(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return "unknown" if value is None else str(value)


# --- what changed ---------------------------------------------------------------------------------------


def _timed(key: Key, a: BatchRecord, b: BatchRecord, apart: list[str]) -> Iterator[DiffRow]:
    """Latency and speed-up of a batch size; not judged where anything stands `apart`."""
    forbidden = f"differs: {', '.join(apart)}" if apart else ""
    parts: tuple[tuple[str, ValueRange, ValueRange, bool], ...] = (
        ("p50 ms", time_ms(a, 50), time_ms(b, 50), False),
        ("p99 ms", time_ms(a, 99), time_ms(b, 99), False),
        ("speed-up", ratio(a.speedup, a.floor), ratio(b.speedup, b.floor), True),
    )
    for quantity, one, other, more in parts:
        yield _row((key[0], key[2], key[3], quantity), one, other, more_is_better=more, forbidden=forbidden)


def _counted(a: ComparisonRecord, b: ComparisonRecord) -> Iterator[DiffRow]:
    """What no machine changes: accuracy, size, MACs, parameters of the candidate."""
    one, other = a.candidate, b.candidate
    same = one.sha256 == other.sha256 and one.sha256 is not None
    reason = "the same file" if same else "another file"
    for quantity, x, y in (
        ("top-1", one.top1, other.top1),
        ("file bytes", one.bytes, other.bytes),
        ("MACs", one.macs, other.macs),
        ("parameters", one.params, other.params),
    ):
        if x is not None and y is not None:
            name = (a.backend, one.label, None, quantity)
            asked = quantity == "top-1"
            other_images = asked and one.top1_images != other.top1_images
            yield _row(
                name,
                exact_value(x, reason),
                exact_value(y, reason),
                more_is_better=asked,
                forbidden="differs: the test images" if other_images else "",
            )


def _row(
    name: tuple[str, str, int | None, str],
    a: ValueRange,
    b: ValueRange,
    *,
    more_is_better: bool,
    forbidden: str = "",
) -> DiffRow:
    change, reason = (Change.NOT_COMPARABLE, forbidden) if forbidden else _change(a, b, more_is_better)
    return DiffRow(
        backend=name[0],
        candidate=name[1],
        batch=name[2],
        quantity=name[3],
        first=a.value,
        second=b.value,
        first_range=(a.low, _end(a.high)),
        second_range=(b.low, _end(b.high)),
        ratio=b.value / a.value if a.value and b.value is not None else None,
        change=change,
        reason=reason,
    )


def _change(a: ValueRange, b: ValueRange, more_is_better: bool) -> tuple[Change, str]:
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return Change.UNCLEAR, (a if a.low is None else b).reason
    if a.too_high or b.too_high:
        return Change.UNCLEAR, a.too_high or b.too_high
    if a.low == a.high and b.low == b.high:  # counted
        if a.low == b.low:
            return Change.SAME, a.reason
        better = (b.low > a.low) is more_is_better
        return (Change.IMPROVEMENT if better else Change.REGRESSION), a.reason
    beyond = math.exp(SAME_WITHIN)
    if b.low > a.high * beyond:
        return (Change.IMPROVEMENT if more_is_better else Change.REGRESSION), "the ranges lie apart"
    if b.high * beyond < a.low:
        return (Change.REGRESSION if more_is_better else Change.IMPROVEMENT), "the ranges lie apart"
    if b.high <= a.low * beyond and a.high <= b.low * beyond:
        return Change.SAME, "both within 2%"
    return Change.UNCLEAR, "the ranges overlap or lie within 2%"


def _end(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else value


# --- for people -----------------------------------------------------------------------------------------

_COLOURS = {
    Change.REGRESSION: "red",
    Change.IMPROVEMENT: "green",
    Change.SAME: "cyan",
    Change.UNCLEAR: "yellow",
    Change.NOT_COMPARABLE: "yellow",
}


def render_diff(found: Diff) -> Group:
    """Return what differs, what changed and what only one result has, for a Rich console."""
    parts: list[RenderableType] = []
    if found.differs:
        parts.append(_differences(found))
    if found.rows:
        parts.append(_changes(found))
    for name, only in ((found.first, found.only_first), (found.second, found.only_second)):
        parts += [Text(f"only in {name}: {said}") for said in only]
    if found.differs:
        parts.append(Text("Times are not compared: what differs may be the cause.", style="yellow"))
    return Group(*parts)


def _differences(found: Diff) -> Table:
    made = Table(title="what differs beside the networks", title_justify="left")
    for name in ("what", found.first, found.second):
        made.add_column(name)
    for entry in found.differs:
        made.add_row(entry.what, entry.first, entry.second)
    return made


def _changes(found: Diff) -> Table:
    made = Table(title=f"{found.second} against {found.first}", title_justify="left")
    for name in ("back end", "network", "batch", "quantity"):
        made.add_column(name)
    for name in (found.first, found.second, "ratio"):
        made.add_column(name, justify="right")
    made.add_column("change")
    made.add_column("why", overflow="fold")
    for row in found.rows:
        made.add_row(
            row.backend,
            row.candidate,
            "-" if row.batch is None else str(row.batch),
            row.quantity,
            _number(row.first, row.first_range),
            _number(row.second, row.second_range),
            "-" if row.ratio is None else f"{row.ratio:.3f}",
            Text(row.change.value, style=_COLOURS[row.change]),
            row.reason,
        )
    return made


def _number(value: float | None, ends: tuple[float | None, float | None]) -> str:
    if value is None:
        return "-"
    low, high = ends
    said = f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if low is None or low == high:
        return said
    return f"{said} ({low:.4g} to {'any' if high is None else f'{high:.4g}'})"
