"""One writer to a run folder: a lock the operating system drops when its holder dies."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from filelock import FileLock, Timeout

from compress.core.errors import CompressError, Exit
from compress.core.files import explain_write_errors

LOCK_FILES = (".lock", ".lock.json")
"""Files of the lock inside a run folder; they are no content."""


class FolderLock:
    """The right to write into one folder.

    The lock is the operating system's, so a killed process leaves none behind. The note beside it says who
    holds it and is only read when the lock is refused.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder / LOCK_FILES[0], thread_local=False)
        self._note = folder / LOCK_FILES[1]

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._lock.is_locked

    def acquire(self) -> None:
        """Take the lock or fail at once.

        Raises:
            CompressError: ``locked``, naming the folder and the process that holds it; ``disk-full``,
                ``not-writable``.
        """
        with explain_write_errors(self._folder / LOCK_FILES[0]):
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                raise CompressError(
                    f"another process is writing to {str(self._folder)!r}{self._holder()}",
                    hint="wait for it to end, or choose another folder with --out",
                    code="locked",
                    exit=Exit.USAGE,
                ) from None
        with contextlib.suppress(OSError):  # the lock holds without its note, on a full disk too
            self._note.write_text(json.dumps({"pid": os.getpid()}), encoding="utf-8")

    def release(self) -> None:
        """Give the lock back; does nothing if it is not held."""
        if self.held:
            with contextlib.suppress(OSError):
                self._note.unlink(missing_ok=True)
            self._lock.release()

    def _holder(self) -> str:
        try:
            return f" (process {json.loads(self._note.read_text(encoding='utf-8'))['pid']})"
        except (OSError, ValueError, KeyError, TypeError):
            return ""
