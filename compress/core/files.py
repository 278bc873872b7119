"""Atomic files and folders: written under a temporary name in the same folder, then renamed."""

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

_QUOTA_ERRORS = {errno.EFBIG, getattr(errno, "EDQUOT", errno.EFBIG)}
_LEFTOVER = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp")
"""Temporary names of `atomic_path` and `staged_directory`."""


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write `data` to `path` atomically: a reader sees the old content or the new one.

    Raises:
        CompressError: (exit 3) ``disk-full`` or ``not-writable``; the old file is then unchanged.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 `text` to `path` atomically (see `write_bytes`)."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path` atomically (see `write_bytes`).

    Raises:
        ValueError: `value` contains a number that JSON cannot represent (NaN or infinity).
        CompressError: as `write_bytes`.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path, *, what: str, hint: str = "") -> dict[str, Any]:
    """Return the JSON object in `path`.

    Args:
        path: the file.
        what: name of the content in error messages, such as ``run record``.
        hint: what to do if the file is missing or damaged.

    Raises:
        CompressError: (exit 3) ``missing-file`` or ``damaged-file``, with the path.
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
            f"the {what} {str(path)!r} is damaged: it contains no JSON object",
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

    On any exception, including an interrupt, the temporary file is removed and `path` is unchanged.

    Raises:
        CompressError: (exit 3) ``disk-full`` or ``not-writable``, with the path.
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
    """Yield an empty temporary folder; on success it replaces the folder `path` as a whole.

    An existing folder is kept as ``.NAME.old`` until the new one is in place, and `current_folder` finds it
    should the process die between the two renames.

    Raises:
        CompressError: (exit 3) ``disk-full`` or ``not-writable``; the old folder is then unchanged.
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
    """Return the folder to read for `path`: itself, or its old version if a replacement was interrupted."""
    old = _old(path)
    return old if not path.exists() and old.is_dir() else path


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


@contextlib.contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` raised while writing `path` into a `CompressError` that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC or error.errno in _QUOTA_ERRORS:
            raise _disk_full(path, is_quota=error.errno in _QUOTA_ERRORS) from error
        raise CompressError(
            f"cannot write {str(path)!r}: {error.strerror or error}",
            hint="choose a folder that you have permission to write to",
            code="not-writable",
            exit=Exit.MISSING,
        ) from error


def _disk_full(path: Path, *, is_quota: bool) -> CompressError:
    folder = next(folder for folder in path.absolute().parents if folder.is_dir())
    free = shutil.disk_usage(folder).free
    why = (
        "a limit on the sizes of files (a quota, or `ulimit -f`) was reached"
        if is_quota
        else f"no space is left ({free / 1e6:,.3g} MB are free)"
    )
    return CompressError(
        f"{why}: cannot write {str(path)!r}; its previous content is unchanged",
        hint=("raise the limit" if is_quota else "free some space on that file system")
        + ", then repeat the command (with --resume if a training has begun)",
        code="disk-full",
        exit=Exit.MISSING,
        details={"path": str(path), "free_bytes": free},
    )


def remove_leftovers(*folders: Path) -> None:
    """Remove temporary files of killed processes from `folders`, of which this process is the only writer."""
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
    """Write the content of a file to the disk, which must happen before it is renamed."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
