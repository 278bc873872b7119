"""Numbers as a reader wants them: few digits, a unit, and a dash for what is not known."""

from __future__ import annotations

from compress.bench.protocol.stats import Verdict
from compress.bench.scenarios.sentences import format_rate

NOTHING = "–"


def count(value: float | None) -> str:
    """A whole number with thousands parted."""
    return NOTHING if value is None else f"{value:,.0f}"


def millions(value: float | None) -> str:
    """A large number, such as of MACs or parameters, in millions or thousands."""
    if value is None:
        return NOTHING
    return f"{value / 1e6:,.2f} M" if value >= 1e6 else f"{value / 1e3:,.1f} k"


def size(value: float | None) -> str:
    """Bytes in decimal units."""
    if value is None:
        return NOTHING
    return f"{value / 1e6:,.2f} MB" if value >= 1e6 else f"{value / 1e3:,.1f} kB"


def memory(value: float | None) -> str:
    """Bytes in whole megabytes."""
    return NOTHING if value is None else f"{value / 1e6:,.0f} MB"


def moment(text: str) -> str:
    """An ISO 8601 time in UTC, to the minute."""
    return f"{text[:10]} {text[11:16]} UTC"


def milliseconds(value: float | None) -> str:
    """A time in milliseconds, to three significant digits or so."""
    if value is None:
        return NOTHING
    return f"{value:.3f} ms" if value < 10 else f"{value:,.1f} ms"


def percent(value: float | None) -> str:
    """A share with two decimals, such as an accuracy."""
    return NOTHING if value is None else f"{value:.2%}"


def share(value: float | None) -> str:
    """A share in whole percent."""
    return NOTHING if value is None else f"{value:.0%}"


def times(value: float | None) -> str:
    """A ratio, such as a speed-up."""
    return NOTHING if value is None else f"{value:.2f}×"


def decimals(value: float | None) -> str:
    """A number with two decimals, such as an efficiency."""
    return NOTHING if value is None else f"{value:.2f}"


def small(value: float | None) -> str:
    """A small number, such as a difference."""
    if value is None:
        return "not finite"
    return "0" if value == 0 else f"{value:.1e}"


def verdict(value: Verdict | None) -> str:
    """A verdict in words."""
    return {
        None: NOTHING,
        Verdict.FASTER: "faster",
        Verdict.SAME: "the same",
        Verdict.SLOWER: "slower",
        Verdict.UNCLEAR: "unclear",
    }[value]


FILTERS = {
    "rate": format_rate,
    "count": count,
    "millions": millions,
    "size": size,
    "memory": memory,
    "moment": moment,
    "ms": milliseconds,
    "percent": percent,
    "share": share,
    "times": times,
    "decimals": decimals,
    "small": small,
    "verdict": verdict,
}
"""Of the templates."""
