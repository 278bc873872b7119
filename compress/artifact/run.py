"""The run folder: settings, log, checkpoints and results of one training."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from pydantic import Field

from compress.artifact.lock import LOCK_FILES, FolderLock
from compress.core.console import is_first_process
from compress.core.errors import CompressError, Exit
from compress.core.files import (
    current_folder,
    explain_write_errors,
    read_json,
    remove_leftovers,
    write_json,
)
from compress.core.formatting import format_millions, format_percent, format_ratio, format_timestamp
from compress.core.machine import Machine, this_machine, versions
from compress.core.records import validate_record
from compress.core.spec import SCHEMA_VERSION, Costs, DataInfo, ModelSpec, Record

CHANGEABLE_ON_RESUME = (
    "device",
    "workers",
    "checkpoint_every",
    "tensorboard",
    "track",
    "sync_bn",
    "out",
    "resume",
    "data_on_device",
    "compile",
)
"""Settings that may be changed on resuming: they do not change the result, or only as another device does."""


class RunRecord(Record):
    """``run.json``: the settings of a run, including all defaults, and the machine it ran on.

    Attributes:
        created: start of the run, ISO 8601 in UTC.
        versions: of Python and of the packages that a result may depend on.
        machine: where it ran.
        command: the command line.
        settings: every setting of the training, JSON types only.
        decisions: what was decided automatically, by name, with the reason and the measured values.
        model: how the dense network is built.
        data: record of the data set.
        dense: costs of the dense network.
        target: as the user wrote it, such as ``macs=0.5``.
        seed: seed of the training.
        method: name of the method.
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
    """Return a record with the current time, this machine, and (unless given) this command line."""
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
    """An open run folder, from `create` or `open`; use it as a context manager, or call `close`.

    Attributes:
        path: the folder, absolute.
        record: content of ``run.json``.
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
        changeable: Iterable[str] = CHANGEABLE_ON_RESUME,
    ) -> RunFolder:
        """Create a run folder, or open an existing one to resume it, and take its lock.

        In processes of `torchrun` other than the first, nothing is written and no lock is taken.

        Args:
            path: the folder; it must contain a run with `resume`, and must be new or empty without.
            record: the record of this command.
            resume: resume the run in the folder; its ``run.json`` is kept.
            changeable: names of settings that may differ from those of the run that is resumed.

        Raises:
            CompressError: ``run-exists``, ``nothing-to-resume``, ``resume-mismatch`` (with the settings that
                differ), ``locked``, ``schema-version``, ``disk-full``, ``not-writable``.
        """
        folder = Path(path).absolute()
        if not is_first_process():
            return cls(folder, record, None)
        if folder.exists() and not folder.is_dir():
            raise CompressError(
                f"{str(path)!r} is a file, not a folder",
                hint="choose another folder with --out",
                code="run-exists",
            )
        if resume and not (folder / "run.json").is_file():
            raise CompressError(
                f"there is no run to resume in {str(path)!r}: it contains no run.json",
                hint="start without --resume",
                code="nothing-to-resume",
                exit=Exit.MISSING,
            )
        lock = _lock_folder(folder)
        try:
            remove_leftovers(folder, folder / "checkpoints")
            if resume:
                return cls(folder, _resumed_record(folder, record, set(changeable)), lock)
            _require_empty(folder)
            run = cls(folder, record, lock)
            write_json(run.record_path, record.model_dump(mode="json"))
            return run
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(cls, path: str | Path, *, write: bool = False) -> RunFolder:
        """Open an existing run folder for reading; with `write`, take its lock.

        Raises:
            CompressError: ``missing-file``, ``damaged-file``, ``schema-version``, ``locked``.
        """
        folder = Path(path).absolute()
        record = read_record(folder)
        return cls(folder, record, _lock_folder(folder) if write and is_first_process() else None)

    @property
    def is_writer(self) -> bool:
        """Whether this process holds the folder's lock."""
        return self._lock is not None and self._lock.held

    def record_decision(self, name: str, decision: dict[str, Any]) -> None:
        """Add an automatic decision to ``run.json``; the file is written by the writer only."""
        decisions = {**self.record.decisions, name: decision}
        self.record = self.record.model_copy(update={"decisions": decisions})
        if self.is_writer:
            write_json(self.record_path, self.record.model_dump(mode="json"))

    def __repr__(self) -> str:
        record = self.record
        return f"RunFolder({str(self.path)!r}: {record.method}, {record.model.name}, {record.data.name})"

    def __str__(self) -> str:
        record = self.record
        size = "x".join(map(str, record.model.input_size))
        lines = [
            f"run {self.path}",
            f"  method   {record.method}, target {record.target or 'none'}, seed {record.seed}",
            f"  model    {record.model.name}, {record.model.num_classes} classes, input {size}",
            f"  data     {record.data.name}, {record.data.train_size:,} training and "
            f"{record.data.test_size:,} test images",
            f"  dense    {_costs_text(record.dense)}",
            f"  compact  {self._compact_text()}",
            f"  created  {format_timestamp(record.created)}",
        ]
        return "\n".join(lines)

    def _compact_text(self) -> str:
        """Return costs and accuracy of the compact model, as far as ``model.json`` has them."""
        try:
            info = read_json(current_folder(self.compact) / "model.json", what="compact model")
            costs = Costs.model_validate(info["compact"])
            top1 = info.get("extra", {}).get("top1")
        except (CompressError, KeyError, ValueError, AttributeError):
            return "none yet"
        ratio = f", {format_ratio(self.record.dense.macs / costs.macs)} fewer MACs" if costs.macs else ""
        return f"{_costs_text(costs)}{ratio}" + (
            f", top-1 {format_percent(top1)}" if top1 is not None else ""
        )

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
        """Path of ``run.json``."""
        return self.path / "run.json"

    @property
    def metrics_path(self) -> Path:
        """Path of ``metrics.jsonl``, which has one line per epoch."""
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        """Folder of the TensorBoard event files."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """Folder of ``last.pt`` and ``best.pt``."""
        return self.path / "checkpoints"

    @property
    def compact(self) -> Path:
        """Folder of the compact model."""
        return self.path / "compact"

    @property
    def export(self) -> Path:
        """Folder of the exported files."""
        return self.path / "export"

    @property
    def bench(self) -> Path:
        """Folder of the benchmark results."""
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
    return validate_record(
        path, value, RunRecord, what="run record", hint="train again into another folder with --out"
    )


def check_version(path: Path, value: dict[str, Any]) -> None:
    """Raise if a file has another schema version.

    Raises:
        CompressError: ``schema-version``, with the file and both versions.
    """
    version = value.get("schema_version")
    if version != SCHEMA_VERSION:
        raise CompressError(
            f"{str(path)!r} has schema version {version!r}; this version of compress reads {SCHEMA_VERSION}",
            hint="use the version of compress that wrote it, or train again into another folder with --out",
            code="schema-version",
        )


def _costs_text(costs: Costs) -> str:
    return f"{format_millions(costs.macs)} MACs, {format_millions(costs.params)} parameters"


def _lock_folder(folder: Path) -> FolderLock:
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(folder)
    lock.acquire()
    return lock


def _require_empty(folder: Path) -> None:
    content = sorted(entry.name for entry in folder.iterdir() if entry.name not in LOCK_FILES)
    if content:
        what = (
            "already contains a run"
            if "run.json" in content
            else f"is not empty (it contains {content[0]!r})"
        )
        raise CompressError(
            f"the folder {str(folder)!r} {what}",
            hint="resume it with --resume, or choose another folder with --out"
            if "run.json" in content
            else "choose another folder with --out",
            code="run-exists",
        )


def _resumed_record(folder: Path, new: RunRecord, changeable: set[str]) -> RunRecord:
    """Return the record in the folder if `new` has the same settings."""
    old = read_record(folder)
    before, now = _result_settings(old, changeable), _result_settings(new, changeable)
    if before["data.fingerprint"] == now["data.fingerprint"]:
        now["data.name"] = before["data.name"]  # the same images in another folder
    differing = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if differing:
        shown = ", ".join(
            f"{_short(key)} (was {before.get(key)!r}, now {now.get(key)!r})" for key in differing[:5]
        )
        raise CompressError(
            f"cannot resume {str(folder)!r} with other settings: {shown}",
            hint="resume with the settings in its run.json, or start a new run with another --out",
            code="resume-mismatch",
            details={"differing": [_short(key) for key in differing]},
        )
    return old


def _result_settings(record: RunRecord, changeable: set[str]) -> dict[str, Any]:
    """Return the values that determine the result of a run, by dotted name."""
    value = record.model_dump(mode="json", include={"settings", "model", "target", "seed", "method"})
    value["data"] = {"name": record.data.name, "fingerprint": record.data.fingerprint}
    return {key: item for key, item in _flatten(value).items() if key.rsplit(".", 1)[-1] not in changeable}


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
