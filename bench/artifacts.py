"""Artifacts of a benchmark (run folders and exported files), and the baseline of each.

The compact model of a run is compared with its dense network; a file is compared with the first artifact (the
compact model, if that is a run). `RUN` compares dense and compact; `RUN_A RUN_B` measures the speed-up of
each run over its own dense network; `RUN model.int8.onnx` also compares the file with the compact model; and
for `a.onnx b.onnx` the first file is the baseline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compress import artifact
from compress.artifact import CompactInfo, RunFolder
from compress.artifact.run import read_record
from compress.bench.backends import Backend, Network, check_reads
from compress.bench.files import Pair
from compress.bench.protocol.worker import Side
from compress.bench.results.record import ArtifactRecord
from compress.core.errors import CompressError
from compress.core.files import sha256_file
from compress.export.trust import manifest
from compress.export.trust.manifest import FileRecord
from compress.export.trust.onnx_metadata import read_onnx_metadata


@dataclass(frozen=True)
class Subject:
    """One side of a comparison before a back end is chosen: a network of a run, or a file.

    Attributes:
        label: its name in tables.
        path: the run folder or the file.
        network: which network of a run; None for a file.
    """

    label: str
    path: Path
    network: Network | None

    @property
    def is_run(self) -> bool:
        """Whether it is a network of a run folder."""
        return self.network is not None


def artifact_path(source: object) -> Path:
    """Return the run folder or file of an artifact.

    Args:
        source: a path; a `RunFolder`; a result with an attribute `run` (of a training or slicing) or `path`
            (of an export).

    Raises:
        CompressError: it is a module, or a result that was not saved (``bad-option``).
    """
    if isinstance(source, str | Path):
        return Path(source)
    for name in ("run", "path"):
        place = getattr(source, name, None)
        if isinstance(place, str | Path):
            return Path(place)
        if isinstance(place, RunFolder):
            return place.path
    raise CompressError(
        f"a benchmark needs run folders or exported files, not {type(source).__name__}",
        hint="save the result first (give `out=` to compress.train or compress.slice), or export the module "
        "with compress.export.export and pass the file",
        code="bad-option",
    )


def comparisons(sources: Sequence[str | Path]) -> list[tuple[Subject, Subject]]:
    """Return baseline and candidate of every comparison.

    Raises:
        CompressError: no artifact is given, one is given twice, or a first file has no other file to be
            compared with (USAGE).
    """
    paths = [Path(name) for name in sources]
    repeated = [path for i, path in enumerate(paths) if path in paths[:i]]
    if not paths or repeated:
        what = f"{str(repeated[0])!r} is given twice" if repeated else "no run or file is given"
        raise CompressError(what, hint="give run folders and exported files, each once", code="bad-option")
    if _is_file(paths[0]) and not any(_is_file(path) for path in paths[1:]):
        raise CompressError(
            f"the file {str(paths[0])!r} has no baseline",
            hint="give the baseline first: a run folder or another file",
            code="nothing-to-compare",
        )
    names = _short_names(paths)
    subjects = [_subjects(path, "" if len(paths) == 1 else f"{names[path]} ") for path in paths]
    first = subjects[0][-1]
    return [
        (two[0], two[1]) if len(two) == 2 else (first, two[0])
        for two in subjects
        if two != subjects[0] or len(two) == 2
    ]


def _subjects(path: Path, prefix: str) -> tuple[Subject, ...]:
    """Return the dense and the compact network of a run, or a file."""
    if _is_file(path):
        return (Subject(prefix.strip(), path, None),)
    return Subject(f"{prefix}dense", path, "dense"), Subject(f"{prefix}compact", path, "compact")


def _short_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Return the name of each path: its last part, or the whole path if that is ambiguous."""
    last = {path: path.resolve().name for path in paths}
    return {path: name if [*last.values()].count(name) == 1 else str(path) for path, name in last.items()}


def side(subject: Subject, backend: Backend, pair: Pair | None) -> Side:
    """Return a subject as a back end loads it.

    Args:
        subject: the network.
        backend: the back end.
        pair: the run's files for this back end, see `compress.bench.files.Prepared`; None for a file.

    Raises:
        CompressError: a file that the back end does not read.
    """
    if not subject.is_run:
        check_reads(backend, subject.path)
        if subject.path.suffix == ".onnx":
            read_onnx_metadata(subject.path)  # raises if it is not an ONNX model
        info = _costs(subject.path)
        macs = None if info is None else info.compact.macs
        return Side(label=subject.label, path=subject.path, macs=macs, given=True)
    assert pair is not None
    assert subject.network is not None
    info, dense = artifact.compact_info(subject.path), subject.network == "dense"
    return Side(
        label=subject.label,
        path=pair.dense if dense else pair.compact,
        network=subject.network,
        macs=(info.dense if dense else info.compact).macs,
        sha256=None if pair.hashes is None else pair.hashes[0 if dense else 1],
    )


def artifact_record(subject: Subject, measured: Side, pair: Pair | None) -> ArtifactRecord:
    """Return the record of a measured network: file, weights, costs and accuracy."""
    if subject.is_run:
        assert pair is not None
        return _of_run(subject, measured, pair)
    record, info = _entry(subject.path), _costs(subject.path)
    return ArtifactRecord(
        label=subject.label,
        artefact=subject.path.name,
        model=None if record is None else record.lineage.model.name,
        method=None if record is None else record.lineage.method,
        file=subject.path.name,
        sha256=sha256_file(subject.path),
        bytes=_bytes(subject.path),
        opset=None if record is None else record.opset,
        precision=None if record is None else record.precision,
        weights="unknown: the file is in no manifest" if record is None else "its run's",
        macs=None if info is None else info.compact.macs,
        params=None if info is None else info.compact.params,
        top1=None if record is None else record.parity.top1_exported,
        top1_images=None if record is None else record.parity.images,
    )


def _of_run(subject: Subject, measured: Side, pair: Pair) -> ArtifactRecord:
    info = artifact.compact_info(subject.path)
    dense = subject.network == "dense"
    costs = info.dense if dense else info.compact
    top1 = info.extra.get("dense_top1" if dense else "top1")
    weights = subject.path / "compact" / "weights.safetensors"
    file = measured.path if measured.path.is_file() else None if dense else weights
    return ArtifactRecord(
        label=subject.label,
        artefact=subject.path.resolve().name,
        model=info.model.name,
        method=info.method,
        file=None if file is None else file.name,
        sha256=None if file is None else sha256_file(file),
        bytes=None if file is None else file.stat().st_size,
        opset=pair.opset,
        precision="fp32",
        weights="fresh and random, with batch-norm statistics of random images" if dense else "the run's",
        macs=costs.macs,
        params=costs.params,
        top1=top1 if isinstance(top1, float) else None,
        top1_images=read_record(subject.path).data.test_size if isinstance(top1, float) else None,
    )


def _entry(path: Path) -> FileRecord | None:
    """Return the manifest's record of a file if its hash matches, or None."""
    return manifest.verified_record(path.parent, path.name)


def _costs(path: Path) -> CompactInfo | None:
    """Return the record of the run that a file was exported from if the file is in its folder, or None."""
    record, run = _entry(path), path.resolve().parent.parent
    if record is None or not (run / "compact" / "model.json").is_file():
        return None
    info = artifact.compact_info(run)
    return info if info.weights_sha256 == record.lineage.weights_sha256 else None


def _bytes(path: Path) -> int:
    """Return the size of a file, including the weights file of an OpenVINO model."""
    weights = path.with_suffix(".bin") if path.suffix == ".xml" else None
    return path.stat().st_size + (weights.stat().st_size if weights is not None and weights.is_file() else 0)


def _is_file(path: Path) -> bool:
    return path.is_file() or (not path.is_dir() and path.suffix in (".onnx", ".xml", ".engine"))
