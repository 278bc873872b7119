"""The gate before an engine is loaded: it is native code, and it is for the machine it was built for.

The content is compared with the manifest's hash first, then the manifest with this machine. What a file says
of itself is never asked.
"""

from __future__ import annotations

import logging
from pathlib import Path

from compress.core.errors import CompressError, Exit
from compress.export.trust import manifest
from compress.export.trust.compat import RTX_TARGETS, Mismatch, export_command, mismatches, runtime_of
from compress.export.trust.device import DeviceRecord, sm, this_device
from compress.export.trust.manifest import FileRecord

_PACKAGES = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}

_log = logging.getLogger(__name__)


def open_trusted(path: Path, *, trust: bool = False, here: DeviceRecord | None = None) -> FileRecord | None:
    """Return the record of a file that may be loaded here.

    Args:
        path: the file, in the export folder with its manifest.
        trust: load a file that no manifest knows; one that a manifest contradicts is refused even so.
        here: the machine to compare with; None is this one.

    Returns:
        Its record, or None with `trust` where no manifest knows it.

    Raises:
        CompressError: no such file or no manifest (``no-manifest``, exit MISSING), other content than the
            manifest's (``tampered-file``, exit PARITY), or another machine than it was built for
            (``other-machine``, exit MISSING).
    """
    if not path.is_file():
        raise CompressError(
            f"there is no file {str(path)!r}",
            hint="make one with `compress export RUN`",
            code="missing-file",
            exit=Exit.MISSING,
        )
    record = manifest.read(path.parent).entry(path.name)
    if record is None:
        _unknown(path, trust)
        return None
    _check_content(path, record)
    device = here or this_device()
    found = mismatches(record, device)
    if found:
        raise _other_machine(path, record, found, device)
    return record


def _unknown(path: Path, trust: bool) -> None:
    """Warn of a file without a record, or refuse it."""
    has = (path.parent / manifest.FILENAME).exists()
    what = (
        f"the {manifest.FILENAME} beside it does not know it"
        if has
        else f"no {manifest.FILENAME} is beside it"
    )
    if trust:
        _log.warning("%s is loaded unchecked: %s", path, what)
        return
    raise CompressError(
        f"nothing vouches for {str(path)!r}: {what}",
        hint="keep the files of an export folder together, or export it again; an engine is native code: "
        "--trust loads it only if you know who built it",
        code="no-manifest",
        exit=Exit.MISSING,
    )


def _check_content(path: Path, record: FileRecord) -> None:
    for part in record.parts:
        fault = manifest.fault(path.parent, part)
        if fault is not None:
            raise CompressError(
                f"{str(path.parent / part.file)!r} is not what the manifest says: it {fault}",
                hint=f"it was changed or damaged after the export; make it again: "
                f"`{export_command(record, _run(path, record))}`",
                code="tampered-file",
                exit=Exit.PARITY,
                details={"file": part.file, "sha256": part.sha256},
            )


def _run(path: Path, record: FileRecord) -> str:
    """Return the run folder a file lies in, or the name of the one it came from."""
    run = path.parent.parent
    return str(run) if (run / "run.json").is_file() else record.lineage.run


def _other_machine(
    path: Path, record: FileRecord, found: tuple[Mismatch, ...], here: DeviceRecord
) -> CompressError:
    return CompressError(
        f"{str(path)!r} was built for another machine: {', '.join(map(str, found))}",
        hint=_mend(path, record, here),
        code="other-machine",
        exit=Exit.MISSING,
        details={
            "file": path.name,
            "differs": [{"what": m.what, "built": m.built, "here": m.here} for m in found],
            "command": export_command(record, _run(path, record), here),
        },
    )


def _mend(path: Path, record: FileRecord, here: DeviceRecord) -> str:
    """Say how to get a file that runs here."""
    runtime = runtime_of(record) or ""
    command = f"`{export_command(record, _run(path, record), here)}`"
    number = sm(here.compute_capability)
    if here.gpu is None:
        return f"an engine runs on an NVIDIA GPU only; where there is one, export it again with {command}"
    if runtime == "tensorrt_rtx" and number is not None and number not in RTX_TARGETS and number < 120:
        return (
            f"TensorRT-RTX builds nothing for compute capability {here.compute_capability}: "
            "export with --format trt or --format onnx"
        )
    if getattr(here, runtime, None) is None:
        return f"`pip install {_PACKAGES[runtime]}`, then export it again with {command}"
    return f"export it again, here: {command}"
