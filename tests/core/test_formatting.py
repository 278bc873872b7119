"""`compress.core.formatting`: numbers as text."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from compress.core import formatting as f


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (f.format_count, 1234.4, "1,234"),
        (f.format_millions, 125_485_706, "125.49 M"),
        (f.format_millions, 8_500, "8.5 k"),
        (f.format_bytes, 3_412_000, "3.41 MB"),
        (f.format_bytes, 12_000, "12.0 kB"),
        (f.format_megabytes, 1_234_567_890, "1,235 MB"),
        (f.format_gigabytes, 1_250_000_000, "1.25 GB"),
        (f.format_ms, 0.2134, "0.213 ms"),
        (f.format_ms, 1204.51, "1,204.5 ms"),
        (f.format_duration, 0.0123, "12.3 ms"),
        (f.format_duration, 1.25, "1.2 s"),
        (f.format_duration, 119, "119 s"),
        (f.format_duration, 120, "2 minutes"),
        (f.format_duration, 3 * 3600, "3 hours"),
        (f.format_duration, 2.5 * 86400, "2.5 days"),
        (f.format_timestamp, "2026-01-31T12:05:59+00:00", "2026-01-31 12:05 UTC"),
        (f.format_percent, 0.93411, "93.41%"),
        (f.format_ratio, 1.984, "1.98×"),
        (f.format_decimal, 0.871, "0.87"),
        (f.format_difference, 1.23e-6, "1.2e-06"),
        (f.format_difference, 0.0, "0"),
        (f.format_difference, None, "not finite"),
    ],
)
def test_a_number_is_formatted(function: Callable[[object], str], value: object, text: str) -> None:
    assert function(value) == text


def test_a_missing_value_is_a_dash() -> None:
    for function in (f.format_count, f.format_millions, f.format_bytes, f.format_ms, f.format_duration):
        assert function(None) == "–"
    assert f.format_percent(None) == f.format_ratio(None) == f.format_decimal(None) == f.NO_VALUE


def test_the_decimals_of_a_percentage_can_be_chosen() -> None:
    assert f.format_percent(0.934, 0) == "93%"


@pytest.mark.parametrize(("count", "text"), [(0, "0 epochs"), (1, "1 epoch"), (1200, "1,200 epochs")])
def test_a_quantity_of_one_has_no_plural(count: int, text: str) -> None:
    assert f.format_quantity(count, "epoch") == text
