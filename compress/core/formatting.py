"""Numbers as text for tables, reports and messages: few digits, a unit, a dash where there is no value."""

from __future__ import annotations

NO_VALUE = "–"
"""Shown where a value is missing."""

_DURATION_UNITS = (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0), ("s", 1.0))


def format_count(value: float | None) -> str:
    """Format a whole number with a thousands separator: ``1,234``."""
    return NO_VALUE if value is None else f"{value:,.0f}"


def format_quantity(count: int, noun: str) -> str:
    """Format a number of things, with a regular plural: ``1 epoch``, ``3 epochs``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_millions(value: float | None) -> str:
    """Format a large number such as MACs or parameters in millions or thousands: ``125.49 M``, ``8.5 k``."""
    if value is None:
        return NO_VALUE
    return f"{value / 1e6:,.2f} M" if value >= 1e6 else f"{value / 1e3:,.1f} k"


def format_bytes(value: float | None) -> str:
    """Format a file size in decimal units: ``3.41 MB``, ``12.0 kB``."""
    if value is None:
        return NO_VALUE
    return f"{value / 1e6:,.2f} MB" if value >= 1e6 else f"{value / 1e3:,.1f} kB"


def format_megabytes(value: float | None) -> str:
    """Format an amount of memory, in bytes, as whole megabytes: ``412 MB``."""
    return NO_VALUE if value is None else f"{value / 1e6:,.0f} MB"


def format_gigabytes(value: float | None) -> str:
    """Format an amount of memory, in bytes, as gigabytes: ``1.25 GB``."""
    return NO_VALUE if value is None else f"{value / 1e9:.2f} GB"


def format_ms(value: float | None) -> str:
    """Format a time in milliseconds: ``0.213 ms``, ``1,204.5 ms``."""
    if value is None:
        return NO_VALUE
    return f"{value:.3f} ms" if value < 10 else f"{value:,.1f} ms"


def format_duration(seconds: float | None) -> str:
    """Format seconds in the unit that a person would use: ``12 ms``, ``45 s``, ``3.5 hours``."""
    if seconds is None:
        return NO_VALUE
    for unit, size in _DURATION_UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def format_timestamp(text: str) -> str:
    """Format an ISO 8601 time in UTC to the minute: ``2026-01-31 12:05 UTC``."""
    return f"{text[:10]} {text[11:16]} UTC"


def format_percent(value: float | None, decimals: int = 2) -> str:
    """Format a share between 0 and 1 as percent: ``93.41%``."""
    return NO_VALUE if value is None else f"{value:.{decimals}%}"


def format_ratio(value: float | None) -> str:
    """Format a ratio such as a speed-up: ``1.98×``."""
    return NO_VALUE if value is None else f"{value:.2f}×"


def format_decimal(value: float | None) -> str:
    """Format a number with two decimals: ``0.87``."""
    return NO_VALUE if value is None else f"{value:.2f}"


def format_difference(value: float | None) -> str:
    """Format a small difference in scientific notation: ``1.2e-06``; None is an infinite or undefined one."""
    if value is None:
        return "not finite"
    return "0" if value == 0 else f"{value:.1e}"
