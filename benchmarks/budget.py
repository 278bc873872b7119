"""A training that ends by itself at the end of an epoch when the time that was given for it is used."""

from __future__ import annotations

import time
from collections.abc import Callable

from compress.training import Progress
from compress.training.metrics import Row


class BudgetUsed(Exception):
    """Another epoch would not fit; everything up to here is in the checkpoint."""

    def __init__(self, finished: int, epochs: int) -> None:
        super().__init__(f"{finished} of {epochs} epochs")
        self.finished, self.epochs = finished, epochs


class Budget:
    """A `Progress` that stops a training between two epochs; one clock for all trainings of a command.

    The loop tells of an epoch when its checkpoint is on the disk. The next one is begun only if, lasting as
    long as the last one, it would end in time; the first epoch of a command is always run, so that each gets
    somewhere.

    Args:
        inner: who draws the progress.
        seconds: of the budget, from now on; None: no limit.
        saved: called with the number of finished epochs after each.
        clock: seconds.
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
        """Whether another epoch would not fit; never before the first."""
        if self._seconds is None or not self._seen:
            return False
        return self._clock() - self._start + self._longest > self._seconds

    def start(self, epochs: int, steps_per_epoch: int, finished: int) -> None:
        """A training begins, or goes on."""
        self._epochs, self._last = epochs, self._clock()
        self._inner.start(epochs, steps_per_epoch, finished)
        if finished < epochs and self.is_used:
            raise BudgetUsed(finished, epochs)

    def step(self, images: int, loss: float | None) -> None:
        """A step is done."""
        self._inner.step(images, loss)

    def epoch(self, row: Row) -> None:
        """An epoch is done, evaluated and saved."""
        self._inner.epoch(row)
        now = self._clock()
        self._longest, self._last = now - self._last, now
        self._seen += 1
        finished = int(row["epoch"])
        if self.saved is not None:
            self.saved(finished)
        if finished < self._epochs and self.is_used:
            raise BudgetUsed(finished, self._epochs)

    def stop(self) -> None:
        """The training ends."""
        self._inner.stop()
