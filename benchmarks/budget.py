"""Time budget of a training, which stops it at the end of an epoch."""

from __future__ import annotations

import time
from collections.abc import Callable

from compress.training import Progress
from compress.training.metrics import Row


class BudgetUsed(Exception):
    """Raised when another epoch would exceed the budget; the checkpoint holds the finished ones."""

    def __init__(self, finished: int, epochs: int) -> None:
        super().__init__(f"{finished} of {epochs} epochs")
        self.finished, self.epochs = finished, epochs


class Budget:
    """A `Progress` that stops a training between two epochs; one budget for all trainings of a command.

    The loop reports an epoch after its checkpoint is saved. The next epoch starts only if, with the duration
    of the last one, it would end within the budget. The first epoch of a command always runs, so that every
    command makes progress.

    Args:
        inner: receives the progress.
        seconds: the budget, starting now; None: no limit.
        saved: called after each epoch with the number of finished epochs.
        clock: returns seconds.
    """

    def __init__(
        self,
        inner: Progress,
        seconds: float | None,
        saved: Callable[[int], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inner, self._seconds, self._clock = inner, seconds, clock
        self.saved = saved
        self._start = self._last = clock()
        self._epochs = self._seen = 0
        self._longest = 0.0

    @property
    def is_used(self) -> bool:
        """Whether another epoch would exceed the budget; False before the first."""
        if self._seconds is None or not self._seen:
            return False
        return self._clock() - self._start + self._longest > self._seconds

    def start(self, epochs: int, steps_per_epoch: int, finished: int) -> None:
        """Start or resume a training."""
        self._epochs, self._last = epochs, self._clock()
        self._inner.start(epochs, steps_per_epoch, finished)
        if finished < epochs and self.is_used:
            raise BudgetUsed(finished, epochs)

    def step(self, images: int, loss: float | None) -> None:
        """Report a step."""
        self._inner.step(images, loss)

    def epoch(self, row: Row) -> None:
        """Report an epoch that is evaluated and saved."""
        self._inner.epoch(row)
        now = self._clock()
        self._longest, self._last = now - self._last, now
        self._seen += 1
        finished = int(row["epoch"])
        if self.saved is not None:
            self.saved(finished)
        if finished < self._epochs and self.is_used:
            raise BudgetUsed(finished, self._epochs)

    def note(self, text: str) -> None:
        """Report a message."""
        self._inner.note(text)

    def stop(self) -> None:
        """End the training."""
        self._inner.stop()
