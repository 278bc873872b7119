"""The manifest of an export folder: which files are in it, what each computes, and where it came from."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from compress.artifact.machine import Machine
from compress.artifact.machine import versions as base_versions
from compress.artifact.run import first_fault
from compress.errors import CompressError, Exit
from compress.files import read_json, sha256_file, write_json
from compress.spec import SCHEMA_VERSION, ModelSpec, Preprocess, Record

FILENAME = "manifest.json"


class TensorRecord(Record):
    """An input or output: a dimension is a number, or a name where it is free."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Lineage(Record):
    """Where a file came from: the run, what was kept, the weights, and the dense network.

    Attributes:
        run: name of the run folder.
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


class DeviceRecord(Record):
    """The GPU a file was built on, and the software that drives it; all None where there is none.

    Attributes:
        gpu: its name. compute_capability: such as ``8.6``.
        driver: version of the driver. cuda: version of CUDA.
        tensorrt, tensorrt_rtx: versions of the packages.
    """

    gpu: str | None = None
    compute_capability: str | None = None
    driver: str | None = None
    cuda: str | None = None
    tensorrt: str | None = None
    tensorrt_rtx: str | None = None


class CompanionRecord(Record):
    """A file that belongs to another and lies beside it, such as the weights of an OpenVINO network."""

    file: str
    sha256: str
    bytes: int


class FileRecord(Record):
    """One exported file.

    Attributes:
        device: the GPU it was built on.
        companions: the other files it consists of.
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


class Manifest(Record):
    """Every file of an export folder."""

    schema_version: int = SCHEMA_VERSION
    kind: Literal["compress-export"] = "compress-export"
    files: tuple[FileRecord, ...] = ()

    def entry(self, file: str) -> FileRecord | None:
        """Return the record of the file of this name."""
        return next((record for record in self.files if record.file == file), None)

    def with_file(self, record: FileRecord) -> Manifest:
        """Return a manifest in which `record` replaces the one of the same file name."""
        others = tuple(other for other in self.files if other.file != record.file)
        return self.model_copy(update={"files": (*others, record)})


def read(folder: Path) -> Manifest:
    """Return the manifest of an export folder; an empty one where the folder has none.

    Raises:
        CompressError: the manifest is not readable, or of another version (exit MISSING).
    """
    path = folder / FILENAME
    if not path.exists():
        return Manifest()
    hint = "remove it and export again"
    content = read_json(path, what="export manifest", hint=hint)
    if content.get("schema_version") != SCHEMA_VERSION:
        raise CompressError(
            f"{str(path)!r} has schema version {content.get('schema_version')!r}; "
            f"this version of compress reads {SCHEMA_VERSION}",
            hint=hint,
            code="schema-version",
            exit=Exit.MISSING,
        )
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        raise CompressError(
            f"the export manifest {str(path)!r} is damaged: {first_fault(error)}",
            hint=hint,
            code="damaged-file",
            exit=Exit.MISSING,
        ) from error


def write(folder: Path, manifest: Manifest) -> Path:
    """Replace the manifest in one step; records of files that are gone are dropped."""
    present = tuple(record for record in manifest.files if (folder / record.file).is_file())
    path = folder / FILENAME
    write_json(path, manifest.model_copy(update={"files": present}).model_dump(mode="json"))
    return path


def trusted(folder: Path, file: str) -> FileRecord | None:
    """Return the record of a file whose content has the hash the manifest gives, else None."""
    record = read(folder).entry(file)
    path = folder / file
    if record is None or not path.is_file() or path.stat().st_size != record.bytes:
        return None
    return record if sha256_file(path) == record.sha256 else None


def this_device() -> DeviceRecord:
    """Return the GPU of this machine, as torch sees it."""
    import torch

    found = versions(("tensorrt", "tensorrt_rtx"))
    here = torch.cuda.is_available()
    return DeviceRecord(
        gpu=torch.cuda.get_device_name() if here else None,
        compute_capability=".".join(map(str, torch.cuda.get_device_capability())) if here else None,
        cuda=torch.version.cuda if here else None,
        tensorrt=found.get("tensorrt") if here else None,
        tensorrt_rtx=found.get("tensorrt_rtx") if here else None,
    )


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python, torch, this program, and of the installed ones of `packages`."""
    found = base_versions()
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
