"""How far a training is, for people: a bar on a terminal, a line an epoch elsewhere, or nothing."""

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
    """What the loop tells about its progress."""

    def start(self, epochs: int, steps_per_epoch: int, finished: int) -> None:
        """Begin, with `finished` of `epochs` already done."""

    def step(self, images: int, loss: float | None) -> None:
        """One step of `images` is done; the loss is given now and then."""

    def epoch(self, row: Row) -> None:
        """An epoch is done and evaluated."""

    def note(self, text: str) -> None:
        """Something the training has decided or written."""

    def stop(self) -> None:
        """End, whether or not the training did."""


class NoProgress:
    """Says nothing."""

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
    """Writes one line an epoch."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._epochs = 0

    def start(self, epochs: int, steps_per_epoch: int, finished: int) -> None:
        """Note how many epochs there are."""
        self._epochs = epochs

    def epoch(self, row: Row) -> None:
        """Write the epoch's line."""
        print(summary(row, self._epochs), file=self._stream, flush=True)

    def note(self, text: str) -> None:
        """Write the note."""
        print(text, file=self._stream, flush=True)


class BarProgress:
    """Draws a bar over all steps, with the time left, and a line for every epoch above it."""

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
        """Move the bar."""
        if self._task is not None:
            self._bar.advance(self._task)
            if loss is not None:
                self._bar.update(self._task, loss=f"loss {loss:.3f}")

    def epoch(self, row: Row) -> None:
        """Print the epoch's line above the bar."""
        self._done = int(row["epoch"])
        if self._task is not None:
            self._bar.update(self._task, epoch=self._label())
        self._console.print(summary(row, self._epochs), highlight=False)

    def note(self, text: str) -> None:
        """Print the note above the bar."""
        self._console.print(text, highlight=False, markup=False)

    def stop(self) -> None:
        """Take the bar away."""
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


def summary(row: Row, epochs: int) -> str:
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
