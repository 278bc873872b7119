"""Progress of a training: a bar on a terminal or in a notebook, one line per epoch elsewhere, or nothing."""

from __future__ import annotations

import sys
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichBar

from compress.training.metrics import Row


class Progress(Protocol):
    """Receives the progress of a training loop."""

    def start(self, epochs: int, steps_per_epoch: int, finished: int) -> None:
        """Begin a training of which `finished` of `epochs` are already done."""

    def step(self, images: int, loss: float | None) -> None:
        """Report a step of `images`; the loss is given at some steps only."""

    def epoch(self, row: Row) -> None:
        """Report an epoch that is finished and evaluated."""

    def note(self, text: str) -> None:
        """Report a decision of the training."""

    def stop(self) -> None:
        """End, whether or not the training was finished."""


class NoProgress:
    """No output."""

    def start(self, epochs: int, steps_per_epoch: int, finished: int) -> None:
        """Do nothing."""

    def step(self, images: int, loss: float | None) -> None:
        """Do nothing."""

    def epoch(self, row: Row) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""


class LineProgress(NoProgress):
    """One line per epoch."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._epochs = 0

    def start(self, epochs: int, steps_per_epoch: int, finished: int) -> None:
        """Store the number of epochs."""
        self._epochs = epochs

    def epoch(self, row: Row) -> None:
        """Write the epoch's line."""
        print(epoch_line(row, self._epochs), file=self._stream, flush=True)

    def note(self, text: str) -> None:
        """Write the note."""
        print(text, file=self._stream, flush=True)


class BarProgress:
    """A bar over all steps, with the remaining time, and one line per epoch above it."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console if console is not None else Console(stderr=True)
        self._bar = RichBar(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[loss]}"),
            console=self._console,
            transient=True,
            speed_estimate_period=300,
        )
        self._task: TaskID | None = None
        self._epochs = 0
        self._done = 0

    def start(self, epochs: int, steps_per_epoch: int, finished: int) -> None:
        """Show the bar."""
        self._epochs, self._done = epochs, finished
        self._task = self._bar.add_task(
            "train",
            total=epochs * steps_per_epoch,
            completed=finished * steps_per_epoch,
            epoch=self._label(),
            loss="",
        )
        self._bar.start()

    def step(self, images: int, loss: float | None) -> None:
        """Advance the bar."""
        if self._task is not None:
            self._bar.advance(self._task)
            if loss is not None:
                self._bar.update(self._task, loss=f"loss {loss:.3f}")

    def epoch(self, row: Row) -> None:
        """Print the epoch's line above the bar."""
        self._done = int(row["epoch"])
        if self._task is not None:
            self._bar.update(self._task, epoch=self._label())
        self._console.print(epoch_line(row, self._epochs), highlight=False)

    def note(self, text: str) -> None:
        """Print the note above the bar."""
        self._console.print(text, highlight=False, markup=False)

    def stop(self) -> None:
        """Remove the bar."""
        self._bar.stop()

    def _label(self) -> str:
        return f"{min(self._done + 1, self._epochs)}/{self._epochs}"


def progress_for(stream: TextIO | None = None, *, quiet: bool = False) -> Progress:
    """Return a bar if `stream` (stderr by default) is a terminal, lines if not, nothing if `quiet`."""
    stream = stream if stream is not None else sys.stderr
    if quiet:
        return NoProgress()
    if stream.isatty():
        return BarProgress(Console(file=stream))
    return LineProgress(stream)


def notebook_progress() -> Progress:
    """Return a bar in a notebook or on a terminal, else nothing: the default of Python functions."""
    console = Console(stderr=True)
    return BarProgress(console) if console.is_jupyter or sys.stderr.isatty() else NoProgress()


def epoch_line(row: Row, epochs: int) -> str:
    """Return an epoch as one line of text; accuracies in percent."""

    def show(key: str, scale: float, pattern: str) -> str:
        value = row.get(key)
        return "-" if value is None else format(value * scale, pattern)

    return (
        f"epoch {row['epoch']}/{epochs}  "
        f"loss {show('train_loss', 1, '.4f')}  top-1 {show('train_top1', 100, '.2f')}%  "
        f"test loss {show('test_loss', 1, '.4f')}  top-1 {show('test_top1', 100, '.2f')}%  "
        f"top-5 {show('test_top5', 100, '.2f')}%  lr {show('lr', 1, '.4g')}  "
        f"{show('seconds', 1, '.1f')} s  {show('images_per_second', 1, '.0f')} images/s"
    )
