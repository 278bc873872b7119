"""Write an inference script (``--script``): a copy of `compress.export.deploy.standalone` for one file."""

from __future__ import annotations

import os
from pathlib import Path

from compress.core.errors import CompressError
from compress.core.files import write_text
from compress.export.deploy import standalone
from compress.export.trust import manifest
from compress.export.trust.manifest import FileRecord


def check_format(format: str) -> None:
    """Refuse a format whose files the script cannot run (exit USAGE)."""
    if format not in standalone.RUNTIMES:
        raise CompressError(
            f"--script supports {' and '.join(standalone.RUNTIMES)} files, not {format!r}",
            hint="an engine needs buffers on the GPU: run it with `compress eval FILE --backend`, "
            "or on a Triton server (--triton)",
            code="script-format",
        )


def check_place(path: Path) -> None:
    """Refuse to overwrite a file that is not an inference script (exit USAGE)."""
    if path.is_dir() or (
        path.exists() and not path.read_bytes().startswith(_source().split("\n")[0].encode())
    ):
        raise CompressError(
            f"{str(path)!r} exists and is not an inference script",
            hint="give another name for --script",
            code="exists",
        )


def write_script(path: Path, folder: Path, record: FileRecord) -> Path:
    """Write the script for a file of an export folder, and return its path.

    The script finds the manifest by a path relative to itself. A script inside the export folder is added to
    the manifest.

    Args:
        path: the script to write.
        folder: the export folder.
        record: the file that the script runs.
    """
    check_format(record.format)
    check_place(path)
    relative = os.path.relpath((folder / manifest.FILENAME).absolute(), path.absolute().parent)
    text = _with_constant(_source(), "MANIFEST", Path(relative).as_posix())
    write_text(path, _with_constant(text, "FILE", record.file))
    if path.absolute().parent == folder.absolute():
        manifest.write(folder, manifest.read(folder).with_extra(manifest.companion_record(path)))
    return path


def _source() -> str:
    return Path(standalone.__file__).read_text(encoding="utf-8")


def _with_constant(source: str, name: str, value: str) -> str:
    """Return `source` with another value of one of its constants."""
    start = source.index(f"\n{name} = ") + 1
    line = source[start : source.index("\n", start)]
    comment = line.partition("  # ")[2]
    return source.replace(line, f"{name} = {value!r}  # {comment}", 1)
