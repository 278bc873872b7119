"""The manifest of an export folder: its files, their inputs and outputs, and the run they came from.

The manifest holds the hash of every file. A signature (`compress.export.trust.signing`) of the manifest
therefore covers every file too.
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from compress.core.files import sha256_file, write_json
from compress.core.machine import Machine
from compress.core.machine import versions as base_versions
from compress.core.records import read_record
from compress.core.spec import SCHEMA_VERSION, ModelSpec, Preprocess, Record
from compress.export.trust.device import DeviceRecord

if TYPE_CHECKING:
    from compress.artifact import CompactInfo, RunFolder

FILENAME = "manifest.json"
SIGNATURE = "manifest.json.sig"

_log = logging.getLogger(__name__)


class TensorRecord(Record):
    """An input or output of a file. A size in its shape is a number, or a name if it is free."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Lineage(Record):
    """The run, plan, weights and dense network that a file was made from.

    Attributes:
        run: name of the run folder.
        run_sha256: hash of the run's run.json; None in manifests of the first version.
        model: the dense network's name and shapes.
        method: the compression method.
        plan_sha256: hash of compact/plan.json; None if nothing was cut.
        weights_sha256: hash of compact/weights.safetensors.
    """

    run: str
    model: ModelSpec
    method: str | None
    plan_sha256: str | None
    weights_sha256: str
    run_sha256: str | None = None


class ParityRecord(Record):
    """Comparison of an exported file with the network it was made from, on real test images.

    Attributes:
        images: how many images were compared.
        max_abs: largest absolute difference of a logit.
        max_rel: `max_abs` divided by the largest absolute logit of the reference.
        agreement: share of the images with the same most likely class.
        top1_reference, top1_exported: accuracy of the two on these images, 0 to 1.
        limit_rel, limit_agreement: largest allowed `max_rel`, smallest allowed `agreement`.
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
    """A file that belongs to an export, or was written for it, such as its weights or a script."""

    file: str
    sha256: str
    bytes: int


class FileRecord(Record):
    """An exported file: its inputs and outputs, how it was built, and the result of the parity check.

    Attributes:
        sha256, bytes: of the file.
        precision: what its layers compute in.
        preprocess: how an image becomes the input tensor.
        companions: files that are needed to load it.
        machine: the machine it was exported on.
        device: the GPU and the runtimes of that machine.
        details: added by the format; ``build`` has the runtime, its version and its flags.
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
    """Records of all files of an export folder.

    Attributes:
        files: the exports.
        extras: other files written for them, such as an inference script.
    """

    schema_version: int = SCHEMA_VERSION
    kind: Literal["compress-export"] = "compress-export"
    files: tuple[FileRecord, ...] = ()
    extras: tuple[CompanionRecord, ...] = ()

    def entry(self, file: str) -> FileRecord | None:
        """Return the record of the file called `file`, or None."""
        return next((record for record in self.files if record.file == file), None)

    def with_file(self, record: FileRecord) -> Manifest:
        """Return a copy with `record`, which replaces a record of the same file name."""
        others = tuple(other for other in self.files if other.file != record.file)
        return self.model_copy(update={"files": (*others, record)})

    def with_extra(self, extra: CompanionRecord) -> Manifest:
        """Return a copy with `extra`, which replaces an extra of the same file name."""
        others = tuple(other for other in self.extras if other.file != extra.file)
        return self.model_copy(update={"extras": (*others, extra)})


def read(folder: Path) -> Manifest:
    """Return the manifest of an export folder; an empty one if the folder has none.

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
    """Replace the manifest in one step; records of missing files are dropped.

    An existing signature is removed, since it does not match the new manifest.
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
        _log.warning("the manifest changed, so its signature %s was removed; sign it again", signature)
    write_json(path, present.model_dump(mode="json"))
    return path


def companion_record(path: Path) -> CompanionRecord:
    """Return name, hash and size of a file of an export folder."""
    return CompanionRecord(file=path.name, sha256=sha256_file(path), bytes=path.stat().st_size)


def describe_mismatch(folder: Path, record: FileRecord | CompanionRecord) -> str | None:
    """Return in a few words how a file differs from its record, or None if size and hash are the same."""
    path = folder / record.file
    if Path(record.file).name != record.file or record.file in ("", ".", ".."):
        return "its name is not a plain file name"
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if size != record.bytes:
        return f"has {size:,} bytes, the manifest says {record.bytes:,}"
    actual = sha256_file(path)
    if actual != record.sha256:
        return f"has sha256 {actual[:16]}..., the manifest says {record.sha256[:16]}..."
    return None


def verified_record(folder: Path, file: str) -> FileRecord | None:
    """Return the record of a file if its content and its companions match their hashes, else None."""
    record = read(folder).entry(file)
    if record is None:
        return None
    is_intact = all(describe_mismatch(folder, part) is None for part in record.parts)
    return record if is_intact else None


def lineage_of(run: RunFolder, info: CompactInfo) -> Lineage:
    """Return where a run's compact model came from."""
    plan = run.compact / "plan.json"
    return Lineage(
        run=run.path.name,
        model=info.model,
        method=info.method,
        plan_sha256=sha256_file(plan) if plan.is_file() else None,
        weights_sha256=info.weights_sha256,
        run_sha256=sha256_file(run.record_path),
    )


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python, torch, compress, and of those of `packages` that are installed."""
    result = base_versions()
    for name in packages:
        try:
            result[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return result
