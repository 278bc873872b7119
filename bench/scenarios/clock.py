"""Clock of a server: the clock of this machine, or a virtual one for tests."""

from __future__ import annotations

import time
from typing import Protocol

SPIN_NS = 500_000
"""The last 0.5 ms of a wait is spent polling the clock, since a sleep may last longer than requested."""


class Clock(Protocol):
    """A clock in nanoseconds with an arbitrary origin."""

    def now(self) -> int:
        """Return the time."""

    def wait_until(self, moment: int) -> None:
        """Return at `moment`, or at once if it is in the past."""


class HostClock:
    """Monotonic clock of the host."""

    def now(self) -> int:
        """Return the time in nanoseconds."""
        return time.perf_counter_ns()

    def wait_until(self, moment: int) -> None:
        """Sleep, then poll the clock until `moment`."""
        clock = time.perf_counter_ns
        remaining = moment - clock() - SPIN_NS
        if remaining > 0:
            time.sleep(remaining / 1e9)
        while clock() < moment:
            pass


class VirtualClock:
    """Simulated clock that advances only by `advance` and `wait_until`."""

    def __init__(self) -> None:
        self._now = 0

    def now(self) -> int:
        """Return nanoseconds since the clock was created."""
        return self._now

    def wait_until(self, moment: int) -> None:
        """Advance to `moment`."""
        self._now = max(self._now, moment)

    def advance(self, length: int) -> None:
        """Advance by `length` nanoseconds."""
        self._now += length
