"""The artifacts of a benchmark, run folders and exported files, and which is compared with which.

A run is compared with its own dense network. A file has none: it is compared with the first artifact that was
given (of a run, its compact model). So `RUN` alone is dense against compact; `RUN_A RUN_B` gives each run's
speed-up over its own dense network; `RUN model.int8.onnx` adds what the file buys over the compact network;
and of `a.onnx b.onnx` the first is the baseline.
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
        label: how tables call it.
        path: the run folder or the file.
        network: of a run; None for a file.
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


def comparisons(named: Sequence[str | Path]) -> list[tuple[Subject, Subject]]:
    """Return baseline and candidate of every comparison.

    Raises:
        CompressError: nothing is named, one thing twice, a file alone, or a first file that no other file
            follows (USAGE).
    """
    paths = [Path(name) for name in named]
    doubled = [path for i, path in enumerate(paths) if path in paths[:i]]
    if not paths or doubled:
        what = f"{str(doubled[0])!r} is named twice" if doubled else "nothing is named"
        raise CompressError(what, hint="name run folders and exported files, each once", code="bad-option")
    if _is_file(paths[0]) and not any(_is_file(path) for path in paths[1:]):
        raise CompressError(
            f"the file {str(paths[0])!r} is compared with nothing",
            hint="name what it is compared with first: a run folder or another file",
            code="nothing-to-compare",
        )
    names = _names(paths)
    subjects = [_subjects(path, "" if len(paths) == 1 else f"{names[path]} ") for path in paths]
    first = subjects[0][-1]
    return [
        (two[0], two[1]) if len(two) == 2 else (first, two[0])
        for two in subjects
        if two != subjects[0] or len(two) == 2
    ]


def _subjects(path: Path, before: str) -> tuple[Subject, ...]:
    """The dense and the compact network of a run, or a file."""
    if _is_file(path):
        return (Subject(before.strip(), path, None),)
    return Subject(f"{before}dense", path, "dense"), Subject(f"{before}compact", path, "compact")


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    """What each path is called: its last part, or the whole of it where another has the same."""
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
            read_onnx_metadata(subject.path)  # refuses what is none
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


def described(subject: Subject, measured: Side, pair: Pair | None) -> ArtifactRecord:
    """Return the record of a side: which file, whose weights, costs, accuracy."""
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
        weights="unknown: no manifest vouches for the file" if record is None else "its run's",
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
        weights="fresh, norms settled on noise" if dense else "the run's",
        macs=costs.macs,
        params=costs.params,
        top1=top1 if isinstance(top1, float) else None,
        top1_images=read_record(subject.path).data.test_size if isinstance(top1, float) else None,
    )


def _entry(path: Path) -> FileRecord | None:
    """The manifest's record of a file, if its content is still the manifest's."""
    return manifest.verified_record(path.parent, path.name)


def _costs(path: Path) -> CompactInfo | None:
    """The record of the run a file was exported from, where it lies in that run's folder."""
    record, run = _entry(path), path.resolve().parent.parent
    if record is None or not (run / "compact" / "model.json").is_file():
        return None
    info = artifact.compact_info(run)
    return info if info.weights_sha256 == record.lineage.weights_sha256 else None


def _bytes(path: Path) -> int:
    """Size of a file, with the weights beside an OpenVINO one."""
    beside = path.with_suffix(".bin") if path.suffix == ".xml" else None
    return path.stat().st_size + (beside.stat().st_size if beside is not None and beside.is_file() else 0)


def _is_file(path: Path) -> bool:
    return path.is_file() or (not path.is_dir() and path.suffix in (".onnx", ".xml", ".engine"))
