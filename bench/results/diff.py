"""Compare two stored benchmark results.

The two results were not measured in pairs. A time therefore counts as changed only if the ranges, each
widened to its noise floor, are more than 2% apart, and only if machine, configuration and versions are the
same.
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
    """How a quantity of the second result compares with the first."""

    REGRESSION = "REGRESSION"
    IMPROVEMENT = "IMPROVEMENT"
    SAME = "SAME"
    UNCLEAR = "UNCLEAR"
    NOT_COMPARABLE = "NOT COMPARABLE"


class Difference(Record):
    """A setting, version or machine property that differs between two results."""

    what: str
    first: str
    second: str


class DiffRow(Record):
    """One quantity of one candidate in both results.

    Attributes:
        batch: batch size; None for a quantity that does not depend on it.
        first, second: values; None where one was not measured.
        first_range, second_range: their ranges; an end of None is unbounded.
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
    """Comparison of two results.

    Attributes:
        differs: differences because of which times are not compared.
        only_first, only_second: comparisons that only one of the results contains.
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
        names: their names in the output.
    """
    general = tuple(_general_differences(first, second))
    a, b = _entries(first), _entries(second)
    differs, rows, seen = list(general), list[DiffRow](), set[tuple[str, str, str]]()
    for key in (key for key in a if key in b):
        own = () if key[:3] in seen else tuple(_session_differences(a[key][0], b[key][0]))
        if key[:3] not in seen:
            seen.add(key[:3])
            differs += [entry for entry in own if entry not in differs]
            rows += _counted_rows(a[key][0], b[key][0])
        differences = [*general, *_session_differences(a[key][0], b[key][0])]
        rows += _timed_rows(key, a[key][1], b[key][1], [entry.what for entry in differences])
    return Diff(
        first=names[0],
        second=names[1],
        differs=tuple(differs),
        rows=tuple(rows),
        only_first=tuple(_key_text(key) for key in a if key not in b),
        only_second=tuple(_key_text(key) for key in b if key not in a),
    )


def _entries(result: BenchResult) -> dict[Key, tuple[ComparisonRecord, BatchRecord]]:
    return {
        (comparison.backend, comparison.baseline.label, comparison.candidate.label, entry.batch): (
            comparison,
            entry,
        )
        for comparison in result.comparisons
        for entry in comparison.batches
    }


def _key_text(key: Key) -> str:
    return f"{key[2]} against {key[1]} on {key[0]}, batch {key[3]}"


# --- what differs ---------------------------------------------------------------------------------------


def _general_differences(a: BenchResult, b: BenchResult) -> Iterator[Difference]:
    """Yield differences of the machine, the configuration and the versions."""
    yield from _differences("machine: ", a.machine.model_dump(), b.machine.model_dump())
    yield from _differences("", {"threads": a.threads}, {"threads": b.threads})
    yield from _differences("", {"governor": a.before.governor}, {"governor": b.before.governor})
    yield from _differences("version of ", a.versions, b.versions)
    yield from _differences("", {"protocol": a.protocol}, {"protocol": b.protocol})


def _session_differences(a: ComparisonRecord, b: ComparisonRecord) -> Iterator[Difference]:
    """Yield differences of the session of one back end."""
    yield from _differences(f"{a.backend}: ", {"timed": a.timed}, {"timed": b.timed})
    yield from _differences(f"{a.backend}: ", a.session, b.session)


def _differences(prefix: str, a: Mapping[str, object], b: Mapping[str, object]) -> Iterator[Difference]:
    for key in dict.fromkeys((*a, *b)):
        one, other = a.get(key), b.get(key)
        if one != other:
            yield Difference(what=f"{prefix}{key}", first=_text(one), second=_text(other))


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return "unknown" if value is None else str(value)


# --- what changed ---------------------------------------------------------------------------------------


def _timed_rows(key: Key, a: BatchRecord, b: BatchRecord, differences: list[str]) -> Iterator[DiffRow]:
    """Yield rows for latency and speed-up at a batch size; with `differences` they are not comparable."""
    forbidden = f"differs: {', '.join(differences)}" if differences else ""
    parts: tuple[tuple[str, ValueRange, ValueRange, bool], ...] = (
        ("p50 ms", time_ms(a, 50), time_ms(b, 50), False),
        ("p99 ms", time_ms(a, 99), time_ms(b, 99), False),
        ("speed-up", ratio(a.speedup, a.floor), ratio(b.speedup, b.floor), True),
    )
    for quantity, one, other, more in parts:
        yield _row((key[0], key[2], key[3], quantity), one, other, more_is_better=more, forbidden=forbidden)


def _counted_rows(a: ComparisonRecord, b: ComparisonRecord) -> Iterator[DiffRow]:
    """Yield rows for what does not depend on the machine: accuracy, file size, MACs and parameters."""
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
            is_accuracy = quantity == "top-1"
            other_images = is_accuracy and one.top1_images != other.top1_images
            yield _row(
                name,
                exact_value(x, reason),
                exact_value(y, reason),
                more_is_better=is_accuracy,
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
        return (
            Change.IMPROVEMENT if more_is_better else Change.REGRESSION
        ), "the ranges are more than 2% apart"
    if b.high * beyond < a.low:
        return (
            Change.REGRESSION if more_is_better else Change.IMPROVEMENT
        ), "the ranges are more than 2% apart"
    if b.high <= a.low * beyond and a.high <= b.low * beyond:
        return Change.SAME, "both within 2%"
    return Change.UNCLEAR, "the ranges overlap or are within 2%"


def _end(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else value


# --- rendering ------------------------------------------------------------------------------------------

_COLOURS = {
    Change.REGRESSION: "red",
    Change.IMPROVEMENT: "green",
    Change.SAME: "cyan",
    Change.UNCLEAR: "yellow",
    Change.NOT_COMPARABLE: "yellow",
}


def render_diff(difference: Diff) -> Group:
    """Return tables of the differences and changes, and what only one result contains, for a Rich console."""
    parts: list[RenderableType] = []
    if difference.differs:
        parts.append(_difference_table(difference))
    if difference.rows:
        parts.append(_change_table(difference))
    for name, only in (
        (difference.first, difference.only_first),
        (difference.second, difference.only_second),
    ):
        parts += [Text(f"only in {name}: {text}") for text in only]
    if difference.differs:
        parts.append(
            Text("Times are not compared, because the differences may be the cause.", style="yellow")
        )
    return Group(*parts)


def _difference_table(difference: Diff) -> Table:
    table = Table(title="differences other than the networks", title_justify="left")
    for name in ("setting", difference.first, difference.second):
        table.add_column(name)
    for entry in difference.differs:
        table.add_row(entry.what, entry.first, entry.second)
    return table


def _change_table(difference: Diff) -> Table:
    table = Table(title=f"{difference.second} against {difference.first}", title_justify="left")
    for name in ("back end", "network", "batch", "quantity"):
        table.add_column(name)
    for name in (difference.first, difference.second, "ratio"):
        table.add_column(name, justify="right")
    table.add_column("change")
    table.add_column("why", overflow="fold")
    for row in difference.rows:
        table.add_row(
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
    return table


def _number(value: float | None, ends: tuple[float | None, float | None]) -> str:
    if value is None:
        return "-"
    low, high = ends
    text = f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if low is None or low == high:
        return text
    return f"{text} ({low:.4g} to {'any' if high is None else f'{high:.4g}'})"
