"""From a run folder to an exported file: build beside, check against the network, release, record."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from torch import Tensor

from compress import artifact
from compress.artifact import CompactInfo, RunFolder
from compress.errors import CompressError, near
from compress.files import sha256_file, write_json
from compress.spec import SCHEMA_VERSION
from export import manifest, parity
from export.manifest import FileRecord, Lineage, ParityRecord
from export.registry import Batch, Built, Format, Job, Options, format_named

SAMPLES = 256
"""Test images compared by default."""


@dataclass(frozen=True)
class ExportResult:
    """The released file, its manifest, and its record in it."""

    path: Path
    manifest: Path
    record: FileRecord


def export(
    run: str | Path,
    format: str = "onnx",
    opset: int | None = None,
    batch: Batch = "dynamic",
    simplify: bool = False,
    data: str | None = None,
    samples: int = SAMPLES,
    *,
    max_relative: float = parity.MAX_RELATIVE,
    min_agreement: float = parity.MIN_AGREEMENT,
) -> ExportResult:
    """Export a run's compact model and release it only if it computes the same on real test images.

    Args:
        run: the run folder; the file and `manifest.json` go into its `export/`.
        format: name of the format, see `export.formats`.
        opset: ONNX operator set; None takes the exporter's default.
        batch: a fixed batch size, or ``"dynamic"``.
        simplify: try onnxsim; its result is kept only if smaller and equal.
        data: name of the data whose test images are compared; None takes the run's own.
        samples: how many of them.
        max_relative: see `export.parity.MAX_RELATIVE`.
        min_agreement: see `export.parity.MIN_AGREEMENT`.

    Raises:
        CompressError: unknown format or impossible option (USAGE), something missing (MISSING), the
            format cannot express the network (BUILD), the outputs differ (PARITY; the file is then kept as
            ``NAME.rejected`` beside a report).
    """
    target = format_named(format)
    _check_options(batch, samples)
    with RunFolder.open(run, write=True) as folder:
        info = artifact.compact_info(folder)
        images, labels = _test_images(info, data, samples)
        job = Job(
            model=artifact.load(folder),
            spec=info.model,
            preprocess=info.preprocess,
            classes=info.classes,
            run=folder.path.name,
            images=images.numpy(),
            options=Options(opset=opset, batch=batch, simplify=simplify),
        )
        folder.export.mkdir(exist_ok=True)
        manifest.read(folder.export)  # one that cannot be carried on is refused before the work
        with tempfile.TemporaryDirectory(prefix=".staging-", dir=folder.export) as staging:
            staged = Path(staging) / target.filename
            built = target.build(job, staged)
            result = parity.check(
                job.model,
                target.open(staged),
                job.images,
                labels.numpy(),
                max_relative=max_relative,
                min_agreement=min_agreement,
            )
            if not result.passed:
                raise _reject(folder.export, staged, result)
            record = _record(target, built, job, info, staged, lineage(folder, info), result)
            return _release(folder.export, staged, record)


def lineage(run: RunFolder, info: CompactInfo) -> Lineage:
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


def _check_options(batch: Batch, samples: int) -> None:
    if isinstance(batch, str) and batch != "dynamic":
        raise CompressError(
            f"{batch!r} is no batch size",
            hint=f"{near(batch, ['dynamic'])} give --batch dynamic or a number".strip(),
            code="bad-batch",
        )
    if not isinstance(batch, str) and batch < 1:
        raise CompressError(
            f"a batch size of {batch} is not possible",
            hint="give --batch dynamic or a number from 1",
            code="bad-batch",
        )
    if samples < 1:
        raise CompressError(
            f"{samples} test images are too few to compare on",
            hint="give --samples from 1",
            code="no-samples",
        )


def _test_images(info: CompactInfo, name: str | None, samples: int) -> tuple[Tensor, Tensor]:
    """Return the first preprocessed test images and labels of the run's data, or of the data named."""
    from compress.data import as_model_wants, load

    source = load(name or info.data, input_size=info.preprocess.input_size)
    if source.info.num_classes != len(info.classes):
        raise CompressError(
            f"the data {source.info.name!r} has {source.info.num_classes} classes, the network "
            f"{len(info.classes)}",
            hint=f"compare on the data the run was trained on, {info.data!r}",
            code="class-count",
        )
    return as_model_wants(source, info.preprocess).test_arrays(samples)


def _record(
    target: Format,
    built: Built,
    job: Job,
    info: CompactInfo,
    path: Path,
    origin: Lineage,
    result: ParityRecord,
) -> FileRecord:
    return FileRecord(
        file=target.filename,
        format=target.name,
        sha256=sha256_file(path),
        bytes=path.stat().st_size,
        precision=built.precision,
        opset=built.opset,
        batch=job.options.batch,
        inputs=built.inputs,
        outputs=built.outputs,
        preprocess=info.preprocess,
        classes=info.classes,
        lineage=origin,
        parity=result,
        tools=dict(built.tools),
        machine=artifact.this_machine(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        details=dict(built.details),
        device=manifest.this_device(),
    )


def _release(folder: Path, staged: Path, record: FileRecord) -> ExportResult:
    """Move the file to its final name, then replace the manifest.

    A process that dies between the two leaves a file whose hash is not the manifest's: not trusted.
    """
    known = manifest.read(folder)
    path = staged.replace(folder / record.file)
    written = manifest.write(folder, known.with_file(record))
    for stale in _rejected(folder, record.file):
        stale.unlink(missing_ok=True)
    return ExportResult(path, written, record)


def _reject(folder: Path, staged: Path, result: ParityRecord) -> CompressError:
    """Keep a file that failed under ``.rejected``, its report beside it, and return the error."""
    kept, report = _rejected(folder, staged.name)
    staged.replace(kept)
    write_json(
        report, {"schema_version": SCHEMA_VERSION, "file": kept.name, **result.model_dump(mode="json")}
    )
    return parity.failure(result, str(kept))


def _rejected(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.rejected", folder / f"{name}.rejected.json"
