"""Accuracy of a run's compact model or an exported file, computed by any back end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from compress import artifact
from compress.artifact import RunFolder
from compress.artifact.run import read_record
from compress.bench.backends import (
    FOLDER,
    RunConfig,
    Runner,
    all_backends,
    check_reads,
    file_kind,
    get_backend,
    require_backend,
    supported_config,
)
from compress.bench.files import Prepared
from compress.bench.protocol.machine import default_threads
from compress.core.errors import CompressError, Exit, did_you_mean
from compress.data import check_class_count, load, with_preprocess
from compress.export.evaluate import ModelInterface, check_data_fits, evaluate_logits
from compress.export.onnx.session import OnnxClassifier
from compress.export.trust import manifest
from compress.export.trust.onnx_metadata import OnnxMetadata, read_onnx_metadata
from compress.training import EvalResult, TrainConfig, evaluate
from compress.training.device import resolve_device

BATCH = 64
"""Default batch size of back ends that read files."""

DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class Evaluated:
    """Accuracy on a data set.

    Attributes:
        result: accuracy, loss and confusion matrix.
        data: name of the data set.
        classes: class names, in the order of the rows of the confusion matrix.
        backend: name of the back end that computed the logits.
    """

    result: EvalResult
    data: str
    classes: tuple[str, ...]
    backend: str = "torch"

    def to_json(self, *, confusion: bool) -> dict[str, Any]:
        """Return a JSON object; the confusion matrix has true classes as rows and predictions as columns."""
        result = self.result
        out: dict[str, Any] = {
            "data": self.data,
            "backend": self.backend,
            "top1": result.top1,
            "top5": result.top5,
            "loss": result.loss,
            "count": result.count,
        }
        if confusion:
            out |= {"classes": list(self.classes), "confusion": result.confusion}
        return out

    def lines(self, *, confusion: bool) -> list[str]:
        """Return the result as text; with `confusion`, a line for each class that ends with its accuracy."""
        result = self.result
        text = f"top-1 {result.top1:.2%}  top-5 {result.top5:.2%}  loss {result.loss:.4f}"
        out = [f"{text}  on {result.count:,} images of {self.data} ({self.backend})"]
        if confusion and result.confusion:
            width = max(map(len, self.classes))
            out.append("rows: the true class; columns: the predicted one, in the same order")
            out += [
                f"{name:>{width}}: "
                + " ".join(f"{n:>5}" for n in row)
                + f"   {row[i] / max(1, sum(row)):.1%}"
                for i, (name, row) in enumerate(zip(self.classes, result.confusion, strict=True))
            ]
        return out


def evaluate_any(
    source: str | Path,
    data: str | None = None,
    *,
    backend: str | None = None,
    device: str = "cpu",
    batch_size: int | None = None,
    threads: int | None = None,
    workers: int = 2,
    trust: bool = False,
) -> Evaluated:
    """Evaluate a run's compact model or an exported file.

    The images are normalized with the mean and std that the model was trained with.

    Args:
        source: a run folder, its ``compact/`` folder, or an exported file.
        data: name of the data set; None: that of the run, or of the run whose ``export/`` folder contains
            the file.
        backend: name of the back end; None: PyTorch for a run, ONNX Runtime on the CPU for ``.onnx``, and
            the first that reads the file otherwise. A run is exported for a back end
            that reads files.
        device: device of the back end torch: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        batch_size: images per batch; None: 256 for PyTorch and 64 for files. Ignored for a file with a fixed
            batch size.
        threads: number of threads of a back end; None: physical cores that this process may use.
        workers: number of processes that decode images.
        trust: load an engine that is in no manifest.

    Raises:
        CompressError: a missing or damaged file or device (MISSING), or data that does not fit the model.
    """
    path = Path(source)
    if path.is_dir() or not path.suffix:
        if backend in (None, "torch"):
            return _evaluate_module(path, data, _device(device), batch_size or 256, workers)
        info = artifact.compact_info(path)
        metadata, name = OnnxMetadata(info.preprocess, info.classes), data or info.data
    else:
        check_reads(get_backend(backend or _default_backend(path)), path)
        name = data or _data_of_run(path)
        metadata = _read_metadata(path)
    preprocess = metadata.preprocess
    config = RunConfig(
        batch_size or BATCH, threads or default_threads(), trust=trust, device=_cpu_or_cuda(device)
    )
    with _loaded(path, backend or _default_backend(path), config) as (runner, used):
        images = load(name, preprocess.input_size if preprocess else None, workers=workers)
        normalized = with_preprocess(images, preprocess) if preprocess else images
        check_data_fits(ModelInterface(path, runner.image_shape, runner.num_classes, metadata), normalized)
        result = evaluate_logits(runner, normalized, batch_size or BATCH)
    return Evaluated(result, images.info.name, metadata.classes or images.info.classes, used)


def _evaluate_module(path: Path, data: str | None, where: str, batch_size: int, workers: int) -> Evaluated:
    """Evaluate a run's compact model in PyTorch."""
    info = artifact.compact_info(path)
    model = artifact.load(path).to(where)
    images = load(data or info.data, info.preprocess.input_size, workers=workers)
    check_class_count(len(info.classes), images.info, hint="give the data that the model was trained on")
    batches = with_preprocess(images, info.preprocess).test_batches(batch_size=batch_size)
    result = evaluate(model, batches, where, info.model.num_classes, confusion=True)
    names = info.classes + tuple(str(i) for i in range(len(info.classes), info.model.num_classes))
    return Evaluated(result, images.info.name, names)


@contextlib.contextmanager
def _loaded(path: Path, backend: str, config: RunConfig) -> Iterator[tuple[Runner, str]]:
    """Load a file, or a run's compact model in the form that the back end reads."""
    runtime = require_backend(backend, config)
    with contextlib.ExitStack() as stack:
        if path.is_dir() and FOLDER not in runtime.reads:
            run = stack.enter_context(RunFolder.open(path, write=True))
            pair = Prepared(run).pair(runtime, [config.batch])
            path, config = pair.compact, replace(config, sha256=pair.hashes[1] if pair.hashes else None)
        runner = runtime.load(
            path, supported_config(runtime, replace(config, batch=_usable_batch(path, config.batch)))
        )
        stack.callback(runner.close)
        yield runner, runtime.name


def _default_backend(path: Path) -> str:
    """Return the first back end that reads a file, preferring those of the CPU."""
    order = ("ort-cpu", "openvino", *all_backends())
    return next((name for name in order if file_kind(path) in all_backends()[name].reads), "ort-cpu")


def _data_of_run(path: Path) -> str:
    """Return the data set of the run whose ``export/`` folder contains a file.

    Raises:
        CompressError: there is no such run, or the manifest does not have the file (``no-data``); (exit 3)
            ``missing-file``.
    """
    if not path.exists():
        raise CompressError(
            f"there is no file {str(path)!r}", hint="check the path", code="missing-file", exit=Exit.MISSING
        )
    run = path.resolve().parent.parent
    if (run / "run.json").is_file() and manifest.read(path.parent).entry(path.name) is not None:
        return read_record(run).data.name
    raise CompressError(
        f"no data is given for the file {str(path)!r}, and it is not in the export folder of a run",
        hint="give --data NAME",
        code="no-data",
    )


def _read_metadata(path: Path) -> OnnxMetadata:
    """Return the metadata of a file, from the manifest in its folder or from the file itself."""
    record = manifest.read(path.parent).entry(path.name)
    if record is not None and path.is_file():
        return OnnxMetadata(record.preprocess, record.classes)
    return read_onnx_metadata(path) if path.suffix == ".onnx" and path.is_file() else OnnxMetadata(None, None)


def _usable_batch(path: Path, requested: int) -> int:
    """Return the fixed batch size of a file, or the requested one, limited to the largest of an engine."""
    record = manifest.read(path.parent).entry(path.name) if path.is_file() else None
    if record is not None:
        profile = (record.details.get("build") or {}).get("profile") or {}
        return (
            record.batch if isinstance(record.batch, int) else min(requested, profile.get("max", requested))
        )
    return (OnnxClassifier(path).batch or requested) if path.suffix == ".onnx" else requested


def _cpu_or_cuda(device: str) -> Literal["cpu", "cuda"]:
    return "cuda" if _device(device) == "cuda" else "cpu"


def _device(name: str) -> str:
    if name not in DEVICES:
        hint = f"{did_you_mean(name, DEVICES)} Known: {', '.join(DEVICES)}".strip()
        raise CompressError(f"unknown device {name!r}", hint=hint, code="unknown-device")
    return resolve_device(TrainConfig.model_validate({"device": name}))
