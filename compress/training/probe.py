"""Time of the parts of a step, by the clock of the device that computes."""

from __future__ import annotations

import itertools
import time
from typing import Protocol

import torch

REST = "everything else"
"""The part of a step outside all named parts."""


class Probe(Protocol):
    """Receives the beginnings of the parts of a step."""

    def begin(self, step: int) -> None:
        """Begin step `step` of the epoch (from 1)."""

    def part(self, name: str) -> None:
        """Begin this part and end the previous one."""

    def end(self) -> None:
        """End the step."""


class NoProbe:
    """No timing."""

    def begin(self, step: int) -> None:
        """Do nothing."""

    def part(self, name: str) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""


class StepClock:
    """Times the parts of steps.

    On a GPU every mark is an event in the stream, so the time of a part is the device's own, including idle
    time, and nothing waits for it. Elsewhere it is the host's clock. A step that is begun and not ended does
    not count.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[_Mark] = []
        self._steps: list[list[_Mark]] = []

    def begin(self, step: int) -> None:
        """Start a step's clock."""
        self._marks = [_Mark(REST, self._device)]

    def part(self, name: str) -> None:
        """Count the time from here on for `name`."""
        self._marks.append(_Mark(name, self._device))

    def end(self) -> None:
        """Stop the clock."""
        self._steps.append([*self._marks, _Mark("", self._device)])

    def parts_ms(self) -> list[dict[str, float]]:
        """Return milliseconds of each part for each step; they add up to the step (waits for the device)."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        steps = []
        for marks in self._steps:
            parts: dict[str, float] = {}
            for mark, following in itertools.pairwise(marks):
                parts[mark.name] = parts.get(mark.name, 0.0) + mark.until_ms(following)
            parts[REST] = parts.pop(REST)  # comes last
            steps.append(parts)
        return steps


class _Mark:
    """A point in time in a step."""

    def __init__(self, name: str, device: torch.device) -> None:
        self.name = name
        self._event: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            self._event.record()
        elif device.type == "mps":
            torch.mps.synchronize()
        self._host = time.perf_counter()

    def until_ms(self, other: _Mark) -> float:
        if self._event is not None and other._event is not None:
            return float(self._event.elapsed_time(other._event))
        return (other._host - self._host) * 1e3
