"""From a run folder to an exported file: build beside, check against the network, release, record."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress import artifact
from compress.artifact import CompactInfo, RunFolder
from compress.core.errors import CompressError, Exit
from compress.core.files import read_json, sha256_file, write_json
from compress.core.spec import SCHEMA_VERSION
from compress.export.options import CALIB_IMAGES, Batch, BatchRange, Options, Precision, check_options
from compress.export.parity import check as parity
from compress.export.parity.chain import COMPACT, Chain, Link, open_chain
from compress.export.registry import Built, Format, Job, NotRun, Source, check_honoured, format_named
from compress.export.source import FULL, Broken, onnx_filename, prepare
from compress.export.trust import manifest
from compress.export.trust.device import this_device
from compress.export.trust.manifest import CompanionRecord, FileRecord, Lineage

if TYPE_CHECKING:
    from compress.data import ImageData

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
    precision: Precision = "fp32",
    target_sm: Sequence[int] = (),
    timing_cache: str | Path | None = None,
    workspace_mb: int | None = None,
    hardware_compat: bool = False,
    version_compat: bool = False,
    calib_images: int = CALIB_IMAGES,
    quantize_ends: bool = False,
    max_relative: float | None = None,
    min_agreement: float | None = None,
) -> ExportResult:
    """Export a run's compact model and release it only if it computes the same on real test images.

    Args:
        run: the run folder; the file and `manifest.json` go into its `export/`.
        format: name of the format, see `export.formats`.
        data: name of the data whose test images are compared and whose training images ranges are taken
            from; None takes the run's own.
        samples: how many test images are compared.
        opset, batch, simplify, precision, target_sm, timing_cache, workspace_mb, hardware_compat,
            version_compat, calib_images, quantize_ends: see `compress.export.options.Options`.
        max_relative, min_agreement: instead of the precision's, see `compress.export.parity.check.LIMITS`.

    Raises:
        CompressError: unknown format or impossible option (USAGE), something missing (MISSING), the
            format cannot express the network (BUILD), the outputs differ (PARITY; the file is then kept as
            ``NAME.rejected`` beside a report).
    """
    options = Options(
        opset=opset,
        batch=batch,
        simplify=simplify,
        precision=precision,
        target_sm=tuple(target_sm),
        timing_cache=None if timing_cache is None else Path(timing_cache),
        workspace_mb=workspace_mb,
        hardware_compat=hardware_compat,
        version_compat=version_compat,
        calib_images=calib_images,
        quantize_ends=quantize_ends,
    )
    check_options(options)
    target = format_named(format)
    check_honoured(target, options)
    _check_samples(samples)
    with RunFolder.open(run, write=True) as folder:
        info = artifact.compact_info(folder)
        source = _images_of(info, data)
        images, labels = source.test_arrays(samples)
        job = Job(
            model=artifact.load(folder),
            spec=info.model,
            preprocess=info.preprocess,
            classes=info.classes,
            run=folder.path.name,
            images=images.numpy(),
            calibration=lambda: source.train_samples(calib_images, 0).numpy(),
            options=options,
        )
        folder.export.mkdir(exist_ok=True)
        manifest.read(folder.export)  # one that cannot be carried on is refused before the work
        chain = open_chain(
            job.model,
            verified(folder),
            job.images,
            labels.numpy(),
            precision,
            max_relative=max_relative,
            min_agreement=min_agreement,
        )
        with tempfile.TemporaryDirectory(prefix=".staging-", dir=folder.export) as staging:
            try:
                path, built = make(target, job, Path(staging), chain)
            except Broken as broken:
                raise _reject(folder.export, broken, chain) from None
            record = _record(target, built, job, info, path, lineage(folder, info), chain)
            return _release(folder.export, path, record)


def make(target: Format, job: Job, staging: Path, chain: Chain) -> tuple[Path, Built]:
    """Build the file of a format in the folder `staging`, each step proven; return its path.

    Raises:
        Broken: a step does not compute what the one before does.
        CompressError: see `export`.
    """
    return translate(target, job, prepare(job, staging, chain), staging, chain)


def translate(target: Format, job: Job, source: Source, staging: Path, chain: Chain) -> tuple[Path, Built]:
    """Build the file of a format from a proven ONNX file, and prove it in turn; see `make`."""
    path = staging / target.filename(source.precision)
    built = target.build(job, source, path)
    files = (path, *(staging / name for name in built.companions))
    if path != source.path or source.precision in ("fp16", "bf16"):
        predictor = target.open(path, source.precision)
        if isinstance(predictor, NotRun):
            chain.not_run(path.name, target.runtime, predictor.reason)
        elif (link := chain.add(path.name, predictor, target.runtime)).status == "failed":
            raise Broken(link, files)
    whole = chain.whole()
    if not whole.passed:
        link = chain.links[-1].model_copy(
            update={"against": COMPACT, "status": "failed", "reason": parity.describe(whole)}
        )
        chain.links.append(link)
        raise Broken(link, files)
    details = {**source.details, **built.details, "chain": chain.to_json(), "parity_of": chain.reached}
    return path, replace(built, details=details)


def verified(run: RunFolder) -> dict[str, Any]:
    """Return what was proven when the run's compact model was saved."""
    return read_json(run.compact / "verify.json", what="verification of the run")


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


def _check_samples(samples: int) -> None:
    if samples < 1:
        raise CompressError(
            f"{samples} test images are too few to compare on",
            hint="give --samples from 1",
            code="no-samples",
        )


def _images_of(info: CompactInfo, name: str | None) -> ImageData:
    """Return the run's data, or the data named, under the run's normalisation."""
    from compress.data import load, with_preprocess

    source = load(name or info.data, input_size=info.preprocess.input_size)
    if source.info.num_classes != len(info.classes):
        raise CompressError(
            f"the data {source.info.name!r} has {source.info.num_classes} classes, the network "
            f"{len(info.classes)}",
            hint=f"compare on the data the run was trained on, {info.data!r}",
            code="class-count",
        )
    return with_preprocess(source, info.preprocess)


def _record(
    target: Format,
    built: Built,
    job: Job,
    info: CompactInfo,
    path: Path,
    origin: Lineage,
    chain: Chain,
) -> FileRecord:
    batch = job.options.batch
    return FileRecord(
        file=path.name,
        format=target.name,
        sha256=sha256_file(path),
        bytes=path.stat().st_size,
        precision=built.precision,
        opset=built.opset,
        batch="dynamic" if isinstance(batch, BatchRange) else batch,
        inputs=built.inputs,
        outputs=built.outputs,
        preprocess=info.preprocess,
        classes=info.classes,
        lineage=origin,
        parity=chain.whole(),
        tools=dict(built.tools),
        machine=artifact.this_machine(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        details=dict(built.details),
        device=this_device(),
        companions=tuple(_companion(path.with_name(name)) for name in built.companions),
    )


def _companion(path: Path) -> CompanionRecord:
    return CompanionRecord(file=path.name, sha256=sha256_file(path), bytes=path.stat().st_size)


def _release(folder: Path, staged: Path, record: FileRecord) -> ExportResult:
    """Move the files to their final names, then replace the manifest.

    A process that dies between the two leaves a file whose hash is not the manifest's: not trusted.
    """
    known = manifest.read(folder)
    names = [record.file, *(companion.file for companion in record.companions)]
    for name in reversed(names):
        path = staged.with_name(name).replace(folder / name)
    written = manifest.write(folder, known.with_file(record))
    for name in (*names, FULL, onnx_filename(record.precision)):  # all of these are proven now
        for stale in _rejected(folder, name):
            stale.unlink(missing_ok=True)
    return ExportResult(path, written, record)


def _reject(folder: Path, broken: Broken, chain: Chain) -> CompressError:
    """Keep the files that failed under ``.rejected``, a report beside them, and return the error."""
    for path in broken.files:
        path.replace(folder / f"{path.name}.rejected")
    kept, report = _rejected(folder, broken.files[0].name)
    result = {**chain.whole().model_dump(mode="json"), "passed": False}
    content = {"file": kept.name, **result, "link": broken.link.name, "chain": chain.to_json()}
    write_json(report, {"schema_version": SCHEMA_VERSION, **content})
    return _failure(broken.link, str(kept), content)


def _failure(link: Link, kept: str, details: dict[str, Any]) -> CompressError:
    """Return the error of the first broken link, with its numbers and the layer that loses most."""
    lost = ""
    if link.worst:
        worst = link.worst[0]
        size = "no finite value" if worst["alone"] is None else f"{worst['alone']:.1%} of its output"
        lost = f"; the layer that loses most is {worst['node']} ({worst['operator']}): {size}"
    remedy = (
        "try a higher --precision, or more --calib-images"
        if details["chain"][-1]["worst"]
        else "try another --opset, or export without --simplify"
    )
    return CompressError(
        f"the exported file does not compute what the network computes: between {link.against} and "
        f"{link.name}, {link.reason}{lost}",
        hint=f"the file is kept as {kept} with its report beside it; nothing was released; {remedy}",
        code="parity",
        exit=Exit.PARITY,
        details=details,
    )


def _rejected(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.rejected", folder / f"{name}.rejected.json"
