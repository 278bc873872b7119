"""Ctrl-C and SIGTERM during a training: an error that says what is saved and how to go on."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from compress.artifact import RunFolder
from compress.core.errors import CompressError, Exit


class Saved:
    """How many epochs the last checkpoint on the disk has, of how many."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.finished = 0


@contextlib.contextmanager
def interruptible(run: RunFolder, saved: Saved) -> Iterator[None]:
    """Turn an interrupt into an error; SIGTERM counts as one while the block runs.

    Raises:
        CompressError: ``interrupted`` (exit 130).
    """
    try:
        with _terminate_as_interrupt():
            yield
    except KeyboardInterrupt:
        raise CompressError(
            f"interrupted; {saved.finished} of {saved.epochs} epochs are saved in {str(run.path)!r}",
            hint="go on by giving the same command with --resume",
            code="interrupted",
            exit=Exit.INTERRUPTED,
            details={"finished": saved.finished, "epochs": saved.epochs},
        ) from None


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Make SIGTERM raise KeyboardInterrupt, where this is the main thread, which alone may set handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
