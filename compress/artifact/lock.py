"""Lock that allows one writer per run folder; the operating system releases it when the process dies."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from filelock import FileLock, Timeout

from compress.core.errors import CompressError, Exit
from compress.core.files import explain_write_errors

LOCK_FILES = (".lock", ".lock.json")
"""Files of the lock in a run folder; a folder that holds only these is empty."""


class FolderLock:
    """Exclusive lock on one folder.

    It is a lock of the operating system, so a killed process leaves none behind. A second file contains the
    id of the process that holds it, for the error message.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder / LOCK_FILES[0], thread_local=False)
        self._pid_file = folder / LOCK_FILES[1]

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._lock.is_locked

    def acquire(self) -> None:
        """Take the lock; do not wait for it.

        Raises:
            CompressError: ``locked``, with the folder and the process that holds the lock; ``disk-full``,
                ``not-writable``.
        """
        with explain_write_errors(self._folder / LOCK_FILES[0]):
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                raise CompressError(
                    f"another process is writing to {str(self._folder)!r}{self._owner()}",
                    hint="wait for it to end, or choose another folder with --out",
                    code="locked",
                    exit=Exit.USAGE,
                ) from None
        with contextlib.suppress(OSError):  # the lock works without this file, for example on a full disk
            self._pid_file.write_text(json.dumps({"pid": os.getpid()}), encoding="utf-8")

    def release(self) -> None:
        """Release the lock; does nothing if it is not held."""
        if self.held:
            with contextlib.suppress(OSError):
                self._pid_file.unlink(missing_ok=True)
            self._lock.release()

    def _owner(self) -> str:
        try:
            return f" (process {json.loads(self._pid_file.read_text(encoding='utf-8'))['pid']})"
        except (OSError, ValueError, KeyError, TypeError):
            return ""
