"""Ctrl-C and SIGTERM during a training: an error that says what is saved and how to resume."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

from compress.artifact import RunFolder
from compress.core.errors import CompressError, Exit


@dataclass
class Saved:
    """Progress of a training on disk.

    Attributes:
        epochs: epochs of the whole training.
        finished: epochs that the last checkpoint contains.
    """

    epochs: int
    finished: int = 0


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
            hint="resume with the same command and --resume",
            code="interrupted",
            exit=Exit.INTERRUPTED,
            details={"finished": saved.finished, "epochs": saved.epochs},
        ) from None


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Make SIGTERM raise KeyboardInterrupt in the main thread, which alone may set signal handlers."""
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
