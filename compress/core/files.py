"""Files that are never half-written: everything is written beside its place and renamed into it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compress.core.errors import CompressError, Exit

_LIMITED = {errno.EFBIG, getattr(errno, "EDQUOT", errno.EFBIG)}
_LEFTOVER = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp")
"""Name of what `atomic_path` and `staged_directory` write to before they rename it."""


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write `data` to `path` so that a reader sees the old file or the new one, never a part.

    Raises:
        CompressError: ``disk-full`` or ``not-writable``; the old file is then untouched.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 `text` to `path`, whole or not at all (see `write_bytes`)."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all (see `write_bytes`)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path, *, what: str, hint: str = "") -> dict[str, Any]:
    """Return the JSON object in `path`.

    Args:
        path: the file.
        what: what it is to the user, such as ``run record``.
        hint: what to do if it is missing or damaged.

    Raises:
        CompressError: the file is missing, unreadable, or not a JSON object; names the file.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CompressError(
            f"there is no {what} {str(path)!r}", hint=hint, code="missing-file", exit=Exit.MISSING
        ) from None
    except OSError as error:
        raise CompressError(
            f"cannot read the {what} {str(path)!r}: {error.strerror}",
            hint=hint,
            code="missing-file",
            exit=Exit.MISSING,
        ) from error
    except ValueError as error:
        raise CompressError(
            f"the {what} {str(path)!r} is damaged: {error}", hint=hint, code="damaged-file", exit=Exit.MISSING
        ) from error
    if not isinstance(value, dict):
        raise CompressError(
            f"the {what} {str(path)!r} is damaged: it holds no JSON object",
            hint=hint,
            code="damaged-file",
            exit=Exit.MISSING,
        )
    return value


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's content as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success flush it and rename it to `path`.

    On any exception, an interrupt too, the temporary file is removed and `path` stays as it was.

    Raises:
        CompressError: ``disk-full`` or ``not-writable``, naming `path`.
    """
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o666 & ~_umask())
            _flush(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def staged_directory(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; on success it takes the place of `path` as a whole.

    A folder that was there is kept as ``.NAME.old`` until the new one is in place, and `current_folder` finds it
    should the process die between the two renames.

    Raises:
        CompressError: ``disk-full`` or ``not-writable``, naming `path`; the old folder is then untouched.
    """
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        old = _old(path)
        try:
            yield staging
            staging.chmod(0o777 & ~_umask())
            for file in staging.rglob("*"):
                if file.is_file():
                    _flush(file)
            if path.exists():
                shutil.rmtree(old, ignore_errors=True)
                path.rename(old)
            staging.rename(path)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def current_folder(path: Path) -> Path:
    """Return the folder to read for `path`: itself, or its previous version if a replacement was cut off."""
    old = _old(path)
    return old if not path.exists() and old.is_dir() else path


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


@contextlib.contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turn an operating system's refusal to write into an error a user can act on."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC or error.errno in _LIMITED:
            raise _full(path, limited=error.errno in _LIMITED) from error
        raise CompressError(
            f"cannot write {str(path)!r}: {error.strerror or error}",
            hint="choose a folder you may write to",
            code="not-writable",
            exit=Exit.MISSING,
        ) from error


def _full(path: Path, *, limited: bool) -> CompressError:
    folder = next(folder for folder in path.absolute().parents if folder.is_dir())
    free = shutil.disk_usage(folder).free
    why = (
        "a limit on the sizes of files (a quota, or `ulimit -f`) forbids"
        if limited
        else f"no space is left ({free / 1e6:,.3g} MB are free)"
    )
    return CompressError(
        f"{why} to write {str(path)!r}; what was there before is intact",
        hint="raise the limit and run the command again"
        if limited
        else "free some space on that file system and run the command again",
        code="disk-full",
        exit=Exit.MISSING,
        details={"path": str(path), "free_bytes": free},
    )


def remove_leftovers(*folders: Path) -> None:
    """Remove what killed processes were writing in `folders`; only for their one writer."""
    for folder in folders:
        if folder.is_dir():
            for entry in list(folder.iterdir()):
                if not _LEFTOVER.fullmatch(entry.name):
                    continue
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Make sure the content is on the disk before its name is."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
