"""`compress.core.errors`: the error type and suggestions for misspelled names."""

from __future__ import annotations

import pytest

from compress.core.errors import CompressError, Exit, did_you_mean


def test_an_error_prints_message_and_hint() -> None:
    assert str(CompressError("no file", hint="give one")) == "no file (give one)"
    assert str(CompressError("no file")) == "no file"
    assert CompressError("no file").exit is Exit.USAGE


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("resnet65", "Did you mean resnet56?"),
        ("ORT-CPU", "Did you mean ort-cpu?"),
        ("kdfs", "Did you mean KDFS?"),
        ("xyz", ""),
    ],
)
def test_the_nearest_names_are_suggested_as_they_are_spelled(name: str, suggestion: str) -> None:
    assert did_you_mean(name, ["resnet56", "ort-cpu", "KDFS"]) == suggestion
