"""The run folder: one folder that holds what was asked, how it went, and what came of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from pydantic import Field

from compress.artifact.lock import LOCK_FILES, FolderLock
from compress.core.errors import CompressError, Exit
from compress.core.files import explain_write_errors, read_json, remove_leftovers, write_json
from compress.core.machine import Machine, this_machine, versions
from compress.core.records import validated
from compress.core.spec import SCHEMA_VERSION, Costs, DataInfo, ModelSpec, Record

CHANGEABLE_ON_RESUME = (
    "device",
    "workers",
    "checkpoint_every",
    "tensorboard",
    "out",
    "resume",
    "data_on_device",
    "compile",
)
"""Settings a resumed run may change: they do not change its result, or as little as another device does."""


class RunRecord(Record):
    """`run.json`: what was asked for, with every default filled in, and where it ran.

    Attributes:
        created: when the run began, ISO 8601 in UTC.
        versions: of Python and the packages that matter.
        command: the command line.
        settings: every setting of the training, JSON types only.
        decisions: what the training chose by itself, by name, with the reason and what was measured.
        dense: costs of the dense network.
        target: as the user wrote it, such as ``macs=0.5``.
    """

    schema_version: int = SCHEMA_VERSION
    kind: Literal["compress-run"] = "compress-run"
    created: str
    versions: dict[str, str]
    machine: Machine
    command: tuple[str, ...] = ()
    settings: dict[str, Any] = Field(default_factory=dict)
    decisions: dict[str, dict[str, Any]] = Field(default_factory=dict)
    model: ModelSpec
    data: DataInfo
    dense: Costs
    target: str
    seed: int
    method: str


def new_record(
    *,
    model: ModelSpec,
    data: DataInfo,
    dense: Costs,
    target: str,
    seed: int,
    method: str,
    settings: dict[str, Any],
    command: Sequence[str] | None = None,
) -> RunRecord:
    """Return a record of now, of this machine, and of the command line if none is given."""
    return RunRecord(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(),
        machine=this_machine(),
        command=tuple(sys.argv if command is None else command),
        settings=settings,
        model=model,
        data=data,
        dense=dense,
        target=target,
        seed=seed,
        method=method,
    )


class RunFolder:
    """An open run folder. Made by `create` (to write) or `open`; use it as a context manager or `close` it.

    Attributes:
        path: the folder, absolute.
        record: what `run.json` says.
    """

    def __init__(self, path: Path, record: RunRecord, lock: FolderLock | None) -> None:
        self.path = path
        self.record = record
        self._lock = lock

    @classmethod
    def create(
        cls,
        path: str | Path,
        record: RunRecord,
        *,
        resume: bool = False,
        free: Iterable[str] = CHANGEABLE_ON_RESUME,
    ) -> RunFolder:
        """Make a run folder, or open an existing one to go on with it, and take its lock.

        On a process of `torchrun` other than the first nothing is written and no lock is taken.

        Args:
            path: the folder; with `resume` it must hold a run, without it must be new or empty.
            record: the record of this command.
            resume: go on with the run in the folder; its own `run.json` stays.
            free: the names of settings that may differ from the run's on a resume.

        Raises:
            CompressError: ``run-exists``, ``nothing-to-resume``, ``resume-mismatch`` (naming the settings
                that differ), ``locked``, ``schema-version`` or a file that cannot be written.
        """
        folder = Path(path).absolute()
        if not _is_first_process():
            return cls(folder, record, None)
        if folder.exists() and not folder.is_dir():
            raise CompressError(
                f"{str(path)!r} is a file, not a folder",
                hint="choose another folder with --out",
                code="run-exists",
            )
        if resume and not (folder / "run.json").is_file():
            raise CompressError(
                f"there is no run to resume in {str(path)!r}: it holds no run.json",
                hint="start without --resume",
                code="nothing-to-resume",
                exit=Exit.MISSING,
            )
        lock = _locked(folder)
        try:
            remove_leftovers(folder, folder / "checkpoints")
            if resume:
                return cls(folder, _resumed(folder, record, set(free)), lock)
            _require_empty(folder)
            run = cls(folder, record, lock)
            write_json(run.record_path, record.model_dump(mode="json"))
            return run
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(cls, path: str | Path, *, write: bool = False) -> RunFolder:
        """Open an existing run folder to read it, or with `write` take its lock too.

        Raises:
            CompressError: no such folder or run, a damaged or foreign `run.json`, another version, or
                ``locked``.
        """
        folder = Path(path).absolute()
        record = read_record(folder)
        return cls(folder, record, _locked(folder) if write and _is_first_process() else None)

    @property
    def is_writer(self) -> bool:
        """Whether this process holds the folder's lock."""
        return self._lock is not None and self._lock.held

    def record_decision(self, name: str, decision: dict[str, Any]) -> None:
        """Write into `run.json` what the training has chosen by itself; on the process that writes only."""
        decisions = {**self.record.decisions, name: decision}
        self.record = self.record.model_copy(update={"decisions": decisions})
        if self.is_writer:
            write_json(self.record_path, self.record.model_dump(mode="json"))

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def record_path(self) -> Path:
        """`run.json`."""
        return self.path / "run.json"

    @property
    def metrics_path(self) -> Path:
        """`metrics.jsonl`, a line an epoch."""
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """Folder of `last.pt` and `best.pt`."""
        return self.path / "checkpoints"

    @property
    def compact(self) -> Path:
        """Folder of the compact model."""
        return self.path / "compact"

    @property
    def export(self) -> Path:
        """Folder of exported models."""
        return self.path / "export"

    @property
    def bench(self) -> Path:
        """Folder of measurements."""
        return self.path / "bench"


def read_record(folder: Path) -> RunRecord:
    """Return the record in a run folder.

    Raises:
        CompressError: ``missing-file``, ``damaged-file``, ``schema-version``.
    """
    if not folder.is_dir():
        raise CompressError(
            f"there is no run folder {str(folder)!r}",
            hint="give the folder that `compress train --out` wrote",
            code="missing-file",
            exit=Exit.MISSING,
        )
    path = folder / "run.json"
    value = read_json(path, what="run record", hint="give a folder that `compress train --out` wrote")
    if value.get("kind") != "compress-run":
        raise CompressError(
            f"{str(path)!r} is not the record of a run (kind {value.get('kind')!r})",
            hint="give a folder that `compress train --out` wrote",
            code="damaged-file",
            exit=Exit.MISSING,
        )
    check_version(path, value)
    return validated(
        path, value, RunRecord, what="run record", hint="train again into another folder with --out"
    )


def check_version(path: Path, value: dict[str, Any]) -> None:
    """Refuse a file of another schema version.

    Raises:
        CompressError: ``schema-version``, naming the file and both versions.
    """
    found = value.get("schema_version")
    if found != SCHEMA_VERSION:
        raise CompressError(
            f"{str(path)!r} has schema version {found!r}; this version of compress reads {SCHEMA_VERSION}",
            hint="use the version of compress that wrote it, or train again into another folder with --out",
            code="schema-version",
        )


def _is_first_process() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def _locked(folder: Path) -> FolderLock:
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(folder)
    lock.acquire()
    return lock


def _require_empty(folder: Path) -> None:
    content = sorted(entry.name for entry in folder.iterdir() if entry.name not in LOCK_FILES)
    if content:
        what = "already holds a run" if "run.json" in content else f"is not empty (it holds {content[0]!r})"
        raise CompressError(
            f"the folder {str(folder)!r} {what}",
            hint="go on with it with --resume, or choose another folder with --out"
            if "run.json" in content
            else "choose another folder with --out",
            code="run-exists",
        )


def _resumed(folder: Path, asked: RunRecord, free: set[str]) -> RunRecord:
    """Return the record in the folder if the one asked for agrees with it."""
    found = read_record(folder)
    before, now = _identity(found, free), _identity(asked, free)
    if before["data.fingerprint"] == now["data.fingerprint"]:
        now["data.name"] = before["data.name"]  # the same images, perhaps at another place on another machine
    differing = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if differing:
        shown = ", ".join(
            f"{_short(key)} (was {before.get(key)!r}, now {now.get(key)!r})" for key in differing[:5]
        )
        raise CompressError(
            f"cannot resume {str(folder)!r} with other settings: {shown}",
            hint="resume with the settings in its run.json, or start anew with another --out",
            code="resume-mismatch",
            details={"differing": [_short(key) for key in differing]},
        )
    return found


def _identity(record: RunRecord, free: set[str]) -> dict[str, Any]:
    """Everything of a record that decides the result, flattened to dotted names."""
    value = record.model_dump(mode="json", include={"settings", "model", "target", "seed", "method"})
    value["data"] = {"name": record.data.name, "fingerprint": record.data.fingerprint}
    return {key: item for key, item in _flatten(value).items() if key.rsplit(".", 1)[-1] not in free}


def _short(key: str) -> str:
    return key.removeprefix("settings.")


def _flatten(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            flat |= _flatten(item, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = item
    return flat
