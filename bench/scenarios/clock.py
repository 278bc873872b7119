"""The time a server lives in: this machine's, or one that a test moves."""

from __future__ import annotations

import time
from typing import Protocol

SPIN_NS = 500_000
"""The last half millisecond of a wait is spent looking at the clock: sleeping may last longer than asked."""


class Clock(Protocol):
    """Tells the time and lets it pass, in nanoseconds from any beginning."""

    def now(self) -> int:
        """Return the time."""

    def wait_until(self, moment: int) -> None:
        """Return at `moment`, or at once where it is past."""


class HostClock:
    """The host's monotonic clock."""

    def now(self) -> int:
        """Return nanoseconds."""
        return time.perf_counter_ns()

    def wait_until(self, moment: int) -> None:
        """Sleep, then spin until `moment`."""
        clock = time.perf_counter_ns
        left = moment - clock() - SPIN_NS
        if left > 0:
            time.sleep(left / 1e9)
        while clock() < moment:
            pass


class VirtualClock:
    """A time that passes only when it is told to."""

    def __init__(self) -> None:
        self._now = 0

    def now(self) -> int:
        """Return nanoseconds since the clock was made."""
        return self._now

    def wait_until(self, moment: int) -> None:
        """Go to `moment`."""
        self._now = max(self._now, moment)

    def pass_by(self, length: int) -> None:
        """Let `length` nanoseconds pass."""
        self._now += length
