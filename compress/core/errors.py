"""The error type of everything that a user can fix: what is wrong, with the value, and what to do.

The error codes are documented in ``docs/errors.md``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum
from typing import Any


class Exit(IntEnum):
    """Exit codes of the command line."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    MISSING = 3
    BUILD = 4
    PARITY = 5
    GATE = 6
    INCONCLUSIVE = 7
    INTERRUPTED = 130


class CompressError(Exception):
    """An error that a user can fix.

    Args:
        message: what is wrong, with the value.
        hint: what to do about it; empty if the message says it.
        code: a stable, machine-readable code such as ``unknown-model``.
        exit: exit code of the command line.
        details: numbers or names for programs (JSON types only).
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: str = "usage",
        exit: Exit = Exit.USAGE,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code
        self.exit = exit
        self.details = details or {}

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "Did you mean a, b?" for the known names nearest to `name`, or an empty string.

    Upper and lower case are not distinguished.
    """
    by_lower_case = {entry.lower(): entry for entry in known}
    matches = difflib.get_close_matches(name.lower(), by_lower_case, n=3, cutoff=0.5)
    return f"Did you mean {', '.join(by_lower_case[match] for match in matches)}?" if matches else ""
