"""Export a run: write files to a staging folder, compare them with the network, release them."""

from __future__ import annotations

import contextlib
import copy
import filecmp
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, Unpack, overload

from torch import nn

from compress import artifact
from compress.artifact import CompactInfo, RunFolder
from compress.artifact.compact import MODULE_PREFIX
from compress.artifact.weights import load_state, read_weights
from compress.core.errors import CompressError, Exit
from compress.core.files import read_json, sha256_file, write_json
from compress.core.garbage_collection import garbage_collection_paused
from compress.core.spec import SCHEMA_VERSION
from compress.export.formats import Format, check_supported, get_format
from compress.export.formats.onnx import TOOLS
from compress.export.onnx import onnx_filename
from compress.export.options import (
    CALIB_IMAGES,
    Batch,
    BatchRange,
    Options,
    Precision,
    check_options,
    check_precision,
)
from compress.export.parity.chain import COMPACT, ParityChain, ParityLink
from compress.export.parity.check import describe_parity
from compress.export.result import ExportResult, ExportResults
from compress.export.source import OnnxSources, ParityFailure, ReusableOnnx
from compress.export.trust import manifest
from compress.export.trust.device import this_device
from compress.export.trust.manifest import FileRecord, Lineage
from compress.export.types import BuiltFile, ExportInputs, NotRun, OnnxSource

if TYPE_CHECKING:
    from compress.data import ImageData
    from compress.pipeline.objects import DataLike

SAMPLES = 256
"""Default number of test images that are compared."""


class HasRun(Protocol):
    """A result that names its run folder, such as a `TrainResult` or a `SliceResult`."""

    @property
    def run(self) -> Any:
        """The run folder or its path."""


Source = str | Path | RunFolder | HasRun
"""The run to export: its folder, or a result that has one."""

DenseModel = nn.Module | Callable[[], nn.Module]
"""A dense network, or a function that makes it."""


class ExportOptions(TypedDict, total=False):
    """Keyword arguments of `export`."""

    opset: int | None
    batch: Batch
    simplify: bool
    data: DataLike | None
    model: DenseModel | None
    samples: int
    target_sm: Sequence[int]
    timing_cache: str | Path | None
    workspace_mb: int | None
    hardware_compat: bool
    version_compat: bool
    calib_images: int
    quantize_ends: bool
    max_relative: float | None
    min_agreement: float | None
    on_result: Callable[[ExportResult], None] | None


@overload
def export(
    source: Source, format: str = "onnx", precision: Precision = "fp32", **options: Unpack[ExportOptions]
) -> ExportResult: ...
@overload
def export(
    source: Source,
    format: list[str] | tuple[str, ...],
    precision: Precision | list[Precision] | tuple[Precision, ...] = "fp32",
    **options: Unpack[ExportOptions],
) -> ExportResults: ...
@overload
def export(
    source: Source,
    format: str = "onnx",
    *,
    precision: list[Precision] | tuple[Precision, ...],
    **options: Unpack[ExportOptions],
) -> ExportResults: ...
def export(
    source: Source,
    format: str | list[str] | tuple[str, ...] = "onnx",
    precision: Precision | list[Precision] | tuple[Precision, ...] = "fp32",
    *,
    opset: int | None = None,
    batch: Batch = "dynamic",
    simplify: bool = False,
    data: DataLike | None = None,
    model: DenseModel | None = None,
    samples: int = SAMPLES,
    target_sm: Sequence[int] = (),
    timing_cache: str | Path | None = None,
    workspace_mb: int | None = None,
    hardware_compat: bool = False,
    version_compat: bool = False,
    calib_images: int = CALIB_IMAGES,
    quantize_ends: bool = False,
    max_relative: float | None = None,
    min_agreement: float | None = None,
    on_result: Callable[[ExportResult], None] | None = None,
) -> ExportResult | ExportResults:
    """Export a run's compact model, and release a file only if it computes the same on real test images.

    With lists of formats or precisions every combination is exported; loading, the ONNX export and the logits
    of the network are shared. A file that fails does not stop the others; the error at the end names all
    failures.

    Args:
        source: a run folder, or a result of `compress.train` or `compress.slice`. The files and
            `manifest.json` are written to its folder `export/`.
        format: name of a format, or several; see `compress.list_formats`.
        precision: ``fp32``, ``fp16``, ``bf16`` or ``int8``, or several.
        opset: ONNX operator set; None for the exporter's default.
        batch: ``"dynamic"``, a fixed batch size, or a `BatchRange`.
        simplify: run onnxsim; its result is kept only if it is smaller and computes the same.
        data: data set, name, or pair (train, test) of torch datasets; its test images are compared, and
            activation ranges are taken from its training images. None for the run's own.
        model: the dense network, or a function that makes it, for the folder of a run that was trained from a
            module; see `compress.load`. A result brings its module with it.
        samples: number of test images to compare.
        target_sm: compute capabilities to compile a TensorRT-RTX engine for, such as ``(86, 89)``.
        timing_cache: file in which TensorRT stores its measurements for the next build.
        workspace_mb: scratch memory in MiB that a layer of an engine may use.
        hardware_compat: build a TensorRT engine that also runs on other GPUs.
        version_compat: build a TensorRT engine that also runs in later versions.
        calib_images: number of training images that activation ranges are taken from.
        quantize_ends: quantize the first and the last layer to INT8 too.
        max_relative: largest relative difference that the parity check accepts, in place of the precision's;
            see `compress.export.parity.check.LIMITS`.
        min_agreement: smallest share of images with the same class, as for `max_relative`.
        on_result: called with each file as soon as it is released.

    Returns:
        The released file; `ExportResults` if `format` or `precision` is a list or tuple.

    Raises:
        CompressError: unknown format or invalid option (USAGE), something is missing (MISSING), the format
            cannot express the network (BUILD), or the outputs differ (PARITY; the file is then kept as
            ``NAME.rejected`` with a report).

    Example:
        >>> export("runs/a", ["onnx", "openvino"], ["fp32", "int8"])  # doctest: +SKIP
        <ExportResults: onnx fp32, onnx int8, openvino fp32, openvino int8>
    """
    is_single = isinstance(format, str) and isinstance(precision, str)
    options = Options(
        opset=opset,
        batch=batch,
        simplify=simplify,
        target_sm=tuple(target_sm),
        timing_cache=None if timing_cache is None else Path(timing_cache),
        workspace_mb=workspace_mb,
        hardware_compat=hardware_compat,
        version_compat=version_compat,
        calib_images=calib_images,
        quantize_ends=quantize_ends,
    )
    tasks = plan_exports(_as_list(format, "format"), _as_list(precision, "precision"), options)
    _check_samples(samples)
    with _opened(source) as run, garbage_collection_paused():
        network = _load_network(run, source, model)
        exporter = _Exporter.prepare(run, network, data, samples, calib_images, max_relative, min_agreement)
        results = exporter.export_all(tasks, on_result)
    return results[0] if is_single else ExportResults(results)


@dataclass(frozen=True)
class ExportTask:
    """One file to export: a format and the options that include the precision."""

    target: Format
    options: Options

    def __str__(self) -> str:
        return f"{self.target.name} {self.options.precision}"


def plan_exports(formats: Sequence[str], precisions: Sequence[str], options: Options) -> list[ExportTask]:
    """Return a task for every combination of a format and a precision, after checking all of them.

    Args:
        formats: names of formats.
        precisions: names of precisions.
        options: of every file. ``quantize_ends`` applies to INT8 only.

    Raises:
        CompressError: unknown names, an invalid option, or a combination that a format does not support
            (USAGE); a missing package (MISSING).
    """
    checked = [check_precision(name) for name in precisions]
    tasks = []
    for precision in checked:
        ends = options.quantize_ends and (precision == "int8" or "int8" not in checked)
        task_options = replace(options, precision=precision, quantize_ends=ends)
        check_options(task_options)
        tasks += [(name, task_options) for name in formats]
    targets = {name: get_format(name) for name in formats}
    for name, task_options in tasks:
        check_supported(targets[name], task_options)
    order = {name: i for i, name in enumerate(formats)}
    tasks.sort(key=lambda task: order[task[0]])  # stable: the precisions keep their order
    return [ExportTask(targets[name], task_options) for name, task_options in tasks]


@dataclass(frozen=True)
class _Exporter:
    """A run that is being exported, with what all of its files share."""

    folder: Path
    info: CompactInfo
    lineage: Lineage
    inputs: ExportInputs
    chain: ParityChain

    @classmethod
    def prepare(
        cls,
        run: RunFolder,
        network: nn.Module,
        data: DataLike | None,
        samples: int,
        calib_images: int,
        max_relative: float | None,
        min_agreement: float | None,
    ) -> _Exporter:
        """Load the data of a network, and compute the network's logits."""
        info = artifact.compact_info(run)
        images = _images_of(info, data)
        pixels, labels = images.test_arrays(samples)
        inputs = ExportInputs(
            model=network,
            spec=info.model,
            preprocess=info.preprocess,
            classes=info.classes,
            run=run.path.name,
            images=pixels.numpy(),
            calibration=cache(lambda: images.train_samples(calib_images, 0).numpy()),
        )
        run.export.mkdir(exist_ok=True)
        manifest.read(run.export)  # an unreadable manifest is reported before the work
        chain = ParityChain.start(
            inputs.model,
            saved_verification(run),
            inputs.images,
            labels.numpy(),
            max_relative=max_relative,
            min_agreement=min_agreement,
        )
        return cls(run.export, info, manifest.lineage_of(run, info), inputs, chain)

    def export_all(
        self, tasks: Sequence[ExportTask], on_result: Callable[[ExportResult], None] | None
    ) -> tuple[ExportResult, ...]:
        """Export every task; raise the error of a single task, or one error for all that failed."""
        results: list[ExportResult] = []
        failures: list[tuple[ExportTask, CompressError]] = []
        with tempfile.TemporaryDirectory(prefix=".staging-", dir=self.folder) as staging:
            sources = OnnxSources(self.inputs, Path(staging), self.chain, self._reusable_onnx())
            for i, task in enumerate(tasks):
                folder = Path(staging) / f"task-{i}"
                folder.mkdir()
                try:
                    result = self._export_one(task, sources, folder)
                except CompressError as error:
                    failures.append((task, error))
                else:
                    results.append(result)
                    if on_result is not None:
                        on_result(result)
        if failures:
            raise _error_of(failures, results, len(tasks))
        return tuple(results)

    def _reusable_onnx(self) -> ReusableOnnx | None:
        """Return the file of an earlier export with the same network and tool versions, or None."""
        record = manifest.verified_record(self.folder, onnx_filename("fp32"))
        if record is None or record.precision != "fp32":
            return None
        expected = (self.lineage, self.info.preprocess, self.info.classes, manifest.versions(TOOLS))
        if (record.lineage, record.preprocess, record.classes, record.tools) != expected:
            return None
        return ReusableOnnx(self.folder / record.file, record)

    def _export_one(self, task: ExportTask, sources: OnnxSources, folder: Path) -> ExportResult:
        try:
            source, chain = sources.get(task.options)
            inputs = replace(self.inputs, options=task.options)
            path, built = build_checked(task.target, inputs, source, folder, chain)
        except ParityFailure as failure:
            raise _reject(self.folder, failure) from None
        return _release(self.folder, path, self._record(task, path, built, chain))

    def _record(self, task: ExportTask, path: Path, built: BuiltFile, chain: ParityChain) -> FileRecord:
        batch = task.options.batch
        return FileRecord(
            file=path.name,
            format=task.target.name,
            sha256=sha256_file(path),
            bytes=path.stat().st_size,
            precision=built.precision,
            opset=built.opset,
            batch="dynamic" if isinstance(batch, BatchRange) else batch,
            inputs=built.inputs,
            outputs=built.outputs,
            preprocess=self.info.preprocess,
            classes=self.info.classes,
            lineage=self.lineage,
            parity=chain.compare_with_compact(),
            tools=dict(built.tools),
            machine=artifact.this_machine(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            details=dict(built.details),
            device=this_device(),
            companions=tuple(manifest.companion_record(path.with_name(name)) for name in built.companions),
        )


def build_checked(
    target: Format, inputs: ExportInputs, source: OnnxSource, folder: Path, chain: ParityChain
) -> tuple[Path, BuiltFile]:
    """Build a format's file from a checked ONNX file, and compare it with that file and with the network.

    Args:
        target: the format.
        inputs: the network with the options of this file.
        source: the ONNX file.
        folder: where to write.
        chain: a chain that ends with the ONNX file; extended.

    Raises:
        ParityFailure: the file does not compute the same.
        CompressError: the format cannot express the network (exit BUILD).
    """
    path = folder / target.filename(source.precision)
    built = target.build(inputs, source, path)
    files = (path, *(folder / name for name in built.companions))
    is_emulated = source.precision in ("fp16", "bf16")  # the ONNX file has not run in a real runtime yet
    if is_emulated or not filecmp.cmp(path, source.path, shallow=False):
        predictor = target.open(path, source.precision)
        if isinstance(predictor, NotRun):
            chain.add_not_run(path.name, target.runtime, predictor.reason)
        elif (link := chain.add(path.name, predictor, target.runtime)).status == "failed":
            raise ParityFailure(link, chain, files)
    parity = chain.compare_with_compact()
    if not parity.passed:
        link = chain.links[-1].model_copy(
            update={"against": COMPACT, "status": "failed", "reason": describe_parity(parity)}
        )
        chain.links.append(link)
        raise ParityFailure(link, chain, files)
    details = {
        **source.details,
        **built.details,
        "chain": chain.to_json(),
        "parity_of": chain.last_step,
    }
    return path, replace(built, details=details)


def saved_verification(run: RunFolder) -> dict[str, Any]:
    """Return the comparisons that were made when the run's compact model was saved."""
    return read_json(run.compact / "verify.json", what="verification of the run")


@contextlib.contextmanager
def _opened(source: Source) -> Iterator[RunFolder]:
    """Open the run of `source` for writing."""
    given = source if isinstance(source, str | Path | RunFolder) else source.run
    if given is None:
        raise CompressError(
            "the result has no run folder, so there is nothing to export",
            hint="slice or train with out=FOLDER",
            code="missing-run",
            exit=Exit.MISSING,
        )
    if isinstance(given, RunFolder) and given.is_writer:
        yield given
        return
    with RunFolder.open(given.path if isinstance(given, RunFolder) else given, write=True) as run:
        yield run


def _as_list(names: str | Sequence[str], what: str) -> list[str]:
    values = list(dict.fromkeys([names] if isinstance(names, str) else names))
    if not values:
        raise CompressError(f"no {what} is given", hint=f"give at least one {what}", code=f"no-{what}")
    return values


def _check_samples(samples: int) -> None:
    if samples < 1:
        raise CompressError(
            f"a parity check needs at least 1 test image, not {samples}",
            hint="give --samples 1 or more",
            code="no-samples",
        )


def _load_network(run: RunFolder, source: Source, dense: DenseModel | None) -> nn.Module:
    """Return the compact network of a run, in evaluation mode on the CPU.

    For a run that was trained from a module it is a copy of the result's module with the saved weights.
    """
    network = getattr(source, "model", None)
    if dense is not None or not isinstance(network, nn.Module) or isinstance(source, RunFolder):
        return artifact.load(run, model=dense)
    if not artifact.compact_info(run).model.name.startswith(MODULE_PREFIX):
        return artifact.load(run)
    path = run.compact / "weights.safetensors"
    network = copy.deepcopy(network).cpu()
    load_state(network, read_weights(path), source=str(path))
    return network.eval()


def _images_of(info: CompactInfo, data: DataLike | None) -> ImageData:
    """Return the run's data set, or the given one, with the run's normalization."""
    from compress.data import check_class_count, load, with_preprocess

    if data is None or isinstance(data, str):
        images = load(data or info.data, info.preprocess.input_size)
    else:
        from compress.pipeline.objects import as_image_data  # imports the training, which takes 0.6 s

        images = as_image_data(data, info.preprocess.input_size)
    hint = f"compare on the data that the run was trained on, {info.data!r}"
    check_class_count(len(info.classes), images.info, hint=hint)
    return with_preprocess(images, info.preprocess)


def _release(folder: Path, staged: Path, record: FileRecord) -> ExportResult:
    """Move the files to their final names, then replace the manifest.

    If the process dies in between, the file's hash differs from the manifest's, so that it is not trusted.
    """
    listed = manifest.read(folder)
    names = [part.file for part in record.parts]
    for name in reversed(names):
        path = staged.with_name(name).replace(folder / name)
    written = manifest.write(folder, listed.with_file(record))
    for name in (*names, onnx_filename("fp32"), onnx_filename(record.precision)):  # all of these passed
        for stale in _rejected_paths(folder, name):
            stale.unlink(missing_ok=True)
    return ExportResult(path, written, record)


def _reject(folder: Path, failure: ParityFailure) -> CompressError:
    """Keep the files that failed as ``NAME.rejected`` with a report, and return the error."""
    for path in failure.files:
        if path.exists():  # a file shared by several formats is moved once
            path.replace(folder / f"{path.name}.rejected")
    kept, report = _rejected_paths(folder, failure.files[0].name)
    parity = {**failure.chain.compare_with_compact().model_dump(mode="json"), "passed": False}
    content = {
        "file": kept.name,
        **parity,
        "link": failure.link.name,
        "chain": failure.chain.to_json(),
    }
    write_json(report, {"schema_version": SCHEMA_VERSION, **content})
    return _parity_error(failure.link, str(kept), content)


def _parity_error(link: ParityLink, kept: str, details: dict[str, Any]) -> CompressError:
    """Return the error of a failed comparison, with its numbers and the layer that loses most."""
    layer = ""
    if link.worst:
        worst = link.worst[0]
        error = "not finite" if worst["alone"] is None else f"{worst['alone']:.1%} of its output"
        layer = f"; the layer with the largest error is {worst['node']} ({worst['operator']}): {error}"
    remedy = (
        "try a higher --precision, or more --calib-images"
        if link.worst
        else "try another --opset, or export without --simplify"
    )
    return CompressError(
        f"the exported file does not compute what the network computes: between {link.against} and "
        f"{link.name}, {link.reason}{layer}",
        hint=f"nothing was released; the file is kept as {kept} with a report; {remedy}",
        code="parity",
        exit=Exit.PARITY,
        details=details,
    )


def _error_of(
    failures: Sequence[tuple[ExportTask, CompressError]], results: Sequence[ExportResult], count: int
) -> CompressError:
    """Return the error of a single task, or one that lists all failures and what was released."""
    _, first = failures[0]
    if count == 1:
        return first
    listing = "; ".join(f"{task}: {error.message}" for task, error in failures)
    released = ", ".join(result.path.name for result in results) or "no file"
    hints = dict.fromkeys(error.hint for _, error in failures if error.hint)
    return CompressError(
        f"{len(failures)} of {count} files could not be exported: {listing}",
        hint=f"{'; '.join(hints)}; released: {released}",
        code=first.code,
        exit=first.exit,
        details={
            "released": [str(result.path) for result in results],
            "failures": [
                {
                    "format": task.target.name,
                    "precision": task.options.precision,
                    "code": error.code,
                    "message": error.message,
                    "hint": error.hint,
                    "details": error.details,
                }
                for task, error in failures
            ],
        },
    )


def _rejected_paths(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.rejected", folder / f"{name}.rejected.json"
