"""The manifest of an export folder: which files are in it, what each computes, and where it came from.

A signature beside it (`compress.export.trust.signing`) covers its bytes, and through the hashes in it every file.
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from compress.core.files import sha256_file, write_json
from compress.core.machine import Machine
from compress.core.machine import versions as base_versions
from compress.core.records import read_record
from compress.core.spec import SCHEMA_VERSION, ModelSpec, Preprocess, Record
from compress.export.trust.device import DeviceRecord

FILENAME = "manifest.json"
SIGNATURE = "manifest.json.sig"

_log = logging.getLogger(__name__)


class TensorRecord(Record):
    """An input or output: a dimension is a number, or a name where it is free."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Lineage(Record):
    """Where a file came from: the run, what was kept, the weights, and the dense network.

    Attributes:
        run: name of the run folder.
        run_sha256: hash of the run's run.json; None for an export from before it was noted.
        model: the dense network's name and shapes.
        method: how it was made narrow.
        plan_sha256: hash of compact/plan.json; None where nothing was cut.
        weights_sha256: hash of compact/weights.safetensors.
    """

    run: str
    model: ModelSpec
    method: str | None
    plan_sha256: str | None
    weights_sha256: str
    run_sha256: str | None = None


class ParityRecord(Record):
    """How near the exported file is to the network it was made from, on real test images.

    Attributes:
        images: how many images were compared.
        max_abs: largest absolute difference of a logit.
        max_rel: `max_abs` divided by the largest absolute logit of the reference.
        agreement: share of the images with the same most likely class.
        top1_reference, top1_exported: accuracy of the two on these images, 0 to 1.
        limit_rel, limit_agreement: what was demanded.
        passed: whether both limits hold and every output is finite.
    """

    images: int
    max_abs: float | None
    max_rel: float | None
    agreement: float
    top1_reference: float
    top1_exported: float
    limit_rel: float
    limit_agreement: float
    passed: bool


class CompanionRecord(Record):
    """A file that is no export by itself: one that belongs to an export, or a script beside it."""

    file: str
    sha256: str
    bytes: int


class FileRecord(Record):
    """One exported file, with what it takes to feed it, to run it, and to trust it.

    Attributes:
        sha256, bytes: of the file.
        precision: what its layers compute in.
        preprocess: how an image becomes its input.
        companions: files it cannot be loaded without.
        machine: where it was exported.
        device: the GPU and the runtimes there.
        details: what the format adds; under ``build`` the runtime, its version and its flags.
    """

    file: str
    format: str
    sha256: str
    bytes: int
    precision: str
    opset: int | None
    batch: int | Literal["dynamic"]
    inputs: tuple[TensorRecord, ...]
    outputs: tuple[TensorRecord, ...]
    preprocess: Preprocess
    classes: tuple[str, ...]
    lineage: Lineage
    parity: ParityRecord
    tools: dict[str, str]
    machine: Machine
    created: str
    details: dict[str, Any] = Field(default_factory=dict)
    device: DeviceRecord | None = None
    companions: tuple[CompanionRecord, ...] = ()

    @property
    def parts(self) -> tuple[FileRecord | CompanionRecord, ...]:
        """The file itself and its companions."""
        return (self, *self.companions)


class Manifest(Record):
    """Every file of an export folder.

    Attributes:
        files: the exports.
        extras: other files that were written for them, such as an inference script.
    """

    schema_version: int = SCHEMA_VERSION
    kind: Literal["compress-export"] = "compress-export"
    files: tuple[FileRecord, ...] = ()
    extras: tuple[CompanionRecord, ...] = ()

    def entry(self, file: str) -> FileRecord | None:
        """Return the record of the file of this name."""
        return next((record for record in self.files if record.file == file), None)

    def with_file(self, record: FileRecord) -> Manifest:
        """Return a manifest in which `record` replaces the one of the same file name."""
        others = tuple(other for other in self.files if other.file != record.file)
        return self.model_copy(update={"files": (*others, record)})

    def with_extra(self, extra: CompanionRecord) -> Manifest:
        """Return a manifest in which `extra` replaces the one of the same file name."""
        others = tuple(other for other in self.extras if other.file != extra.file)
        return self.model_copy(update={"extras": (*others, extra)})


def read(folder: Path) -> Manifest:
    """Return the manifest of an export folder; an empty one where the folder has none.

    Raises:
        CompressError: the manifest is not readable, or of another version (exit MISSING).
    """
    path = folder / FILENAME
    return read_file(path) if path.exists() else Manifest()


def read_file(path: Path) -> Manifest:
    """Return the manifest in a file; see `read`."""
    hint = "remove it and export again"
    return read_record(path, Manifest, what="export manifest", hint=hint, versions=(SCHEMA_VERSION,))


def write(folder: Path, manifest: Manifest) -> Path:
    """Replace the manifest in one step; records of files that are gone are dropped.

    A signature of the manifest before is removed: it says nothing about the new one.
    """
    present = manifest.model_copy(
        update={
            "files": tuple(record for record in manifest.files if (folder / record.file).is_file()),
            "extras": tuple(extra for extra in manifest.extras if (folder / extra.file).is_file()),
        }
    )
    path, signature = folder / FILENAME, folder / SIGNATURE
    if signature.exists():
        signature.unlink()
        _log.warning("the manifest changed, so its signature %s is removed", signature)
    write_json(path, present.model_dump(mode="json"))
    return path


def record_of(path: Path) -> CompanionRecord:
    """Return the record of a file of an export folder: its name, hash and size."""
    return CompanionRecord(file=path.name, sha256=sha256_file(path), bytes=path.stat().st_size)


def fault(folder: Path, record: FileRecord | CompanionRecord) -> str | None:
    """Say how a file differs from its record, in a few words; None where size and hash are the same."""
    path = folder / record.file
    if Path(record.file).name != record.file or record.file in ("", ".", ".."):
        return "its name is no plain file name"
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if size != record.bytes:
        return f"has {size:,} bytes, the manifest says {record.bytes:,}"
    found = sha256_file(path)
    if found != record.sha256:
        return f"has sha256 {found[:16]}..., the manifest says {record.sha256[:16]}..."
    return None


def trusted(folder: Path, file: str) -> FileRecord | None:
    """Return the record of a file if it and its companions have the hashes the manifest gives, else None."""
    record = read(folder).entry(file)
    if record is None:
        return None
    intact = all(fault(folder, part) is None for part in record.parts)
    return record if intact else None


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python, torch, this program, and of the installed ones of `packages`."""
    found = base_versions()
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
