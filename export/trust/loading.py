"""The loading check: may this engine be loaded on this machine?

An engine is native code, and it runs only on the machine it was built for. Its content is compared with the
hash in the manifest, then the manifest with this machine. Metadata inside the engine is never used.
"""

from __future__ import annotations

import logging
from pathlib import Path

from compress.core.errors import CompressError, Exit
from compress.export.trust import manifest
from compress.export.trust.compatibility import RTX_TARGETS, Mismatch, export_command, mismatches, runtime_of
from compress.export.trust.device import DeviceRecord, sm, this_device
from compress.export.trust.manifest import FileRecord

_PACKAGES = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}

_log = logging.getLogger(__name__)


def check_loadable(path: Path, *, trust: bool = False, here: DeviceRecord | None = None) -> FileRecord | None:
    """Check that a file may be loaded on this machine, and return its record.

    Args:
        path: the file, in the export folder with its manifest.
        trust: accept a file that is in no manifest; one that differs from its manifest is refused even so.
        here: the machine to compare with; None for this one.

    Returns:
        Its record; None with `trust` for a file in no manifest.

    Raises:
        CompressError: no such file or no manifest (``no-manifest``, exit MISSING), the content is not the
            manifest's (``tampered-file``, exit PARITY), or this machine is not the one it was built for
            (``other-machine``, exit MISSING).
    """
    if not path.is_file():
        raise CompressError(
            f"there is no file {str(path)!r}",
            hint="check the path, or export a run with `compress export RUN`",
            code="missing-file",
            exit=Exit.MISSING,
        )
    record = manifest.read(path.parent).entry(path.name)
    if record is None:
        _check_unlisted(path, trust)
        return None
    _check_content(path, record)
    device = here or this_device()
    differences = mismatches(record, device)
    if differences:
        raise _other_machine(path, record, differences, device)
    return record


def _check_unlisted(path: Path, trust: bool) -> None:
    """Warn about a file that is in no manifest if `trust`, else refuse it."""
    if (path.parent / manifest.FILENAME).exists():
        reason = f"the {manifest.FILENAME} in its folder does not list it"
    else:
        reason = f"its folder has no {manifest.FILENAME}"
    if trust:
        _log.warning("loading %s unchecked: %s", path, reason)
        return
    raise CompressError(
        f"{str(path)!r} cannot be verified: {reason}",
        hint="keep the files of an export folder together, or export it again; an engine is native code, "
        "so give --trust only if you know who built it",
        code="no-manifest",
        exit=Exit.MISSING,
    )


def _check_content(path: Path, record: FileRecord) -> None:
    for part in record.parts:
        mismatch = manifest.describe_mismatch(path.parent, part)
        if mismatch is not None:
            raise CompressError(
                f"{str(path.parent / part.file)!r} is not the file of the manifest: it {mismatch}",
                hint="it was changed or damaged after the export; export it again: "
                f"`{export_command(record, _run_of(path, record))}`",
                code="tampered-file",
                exit=Exit.PARITY,
                details={"file": part.file, "sha256": part.sha256},
            )


def _run_of(path: Path, record: FileRecord) -> str:
    """Return the run folder that contains a file, or else the name of the run it was exported from."""
    run = path.parent.parent
    return str(run) if (run / "run.json").is_file() else record.lineage.run


def _other_machine(
    path: Path, record: FileRecord, differences: tuple[Mismatch, ...], here: DeviceRecord
) -> CompressError:
    return CompressError(
        f"{str(path)!r} was built for another machine: {', '.join(map(str, differences))}",
        hint=_remedy(path, record, here),
        code="other-machine",
        exit=Exit.MISSING,
        details={
            "file": path.name,
            "differs": [{"what": m.what, "built": m.built, "here": m.here} for m in differences],
            "command": export_command(record, _run_of(path, record), here),
        },
    )


def _remedy(path: Path, record: FileRecord, here: DeviceRecord) -> str:
    """Return how to get a file that runs on this machine."""
    runtime = runtime_of(record) or ""
    command = f"`{export_command(record, _run_of(path, record), here)}`"
    number = sm(here.compute_capability)
    if here.gpu is None:
        return f"an engine runs on an NVIDIA GPU only; on a machine with one, export it again with {command}"
    if runtime == "tensorrt_rtx" and number is not None and number not in RTX_TARGETS and number < 120:
        return (
            f"TensorRT-RTX has no target for compute capability {here.compute_capability}: "
            "export with --format trt or --format onnx"
        )
    if getattr(here, runtime, None) is None:
        return f"`pip install {_PACKAGES[runtime]}`, then export it again with {command}"
    return f"export it again on this machine: {command}"
