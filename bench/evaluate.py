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
from compress.core.errors import CompressError, did_you_mean
from compress.data import load, with_preprocess
from compress.export.evaluate import ModelInterface, check_data_fits, evaluate_logits
from compress.export.onnx.session import OnnxClassifier
from compress.export.trust import manifest
from compress.export.trust.onnx_metadata import OnnxMetadata, read_onnx_metadata
from compress.training import EvalResult, TrainConfig, evaluate
from compress.training.device import resolve_device

BATCH = 64
"""Images at once for a back end, where neither the user nor the file says."""

DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class Evaluated:
    """Accuracy on a data set.

    Attributes:
        result: the shares, with the confusion counted.
        data: name of the data set.
        classes: names of the labels, in the order of the confusion's rows.
        backend: what computed the logits.
    """

    result: EvalResult
    data: str
    classes: tuple[str, ...]
    backend: str = "torch"

    def to_json(self, *, confusion: bool) -> dict[str, Any]:
        """A JSON object; with `confusion`, its rows the true classes, its columns the predictions."""
        found = self.result
        out: dict[str, Any] = {
            "data": self.data,
            "backend": self.backend,
            "top1": found.top1,
            "top5": found.top5,
            "loss": found.loss,
            "count": found.count,
        }
        if confusion:
            out |= {"classes": list(self.classes), "confusion": found.confusion}
        return out

    def lines(self, *, confusion: bool) -> list[str]:
        """The same for people: a line, and with `confusion` one a class that ends in its accuracy."""
        found = self.result
        text = f"top-1 {found.top1:.2%}  top-5 {found.top5:.2%}  loss {found.loss:.4f}"
        out = [f"{text}  on {found.count:,} images of {self.data} ({self.backend})"]
        if confusion and found.confusion:
            wide = max(map(len, self.classes))
            out.append("rows: the true class; columns: the predicted one, in the same order")
            out += [
                f"{name:>{wide}}: " + " ".join(f"{n:>5}" for n in row) + f"   {row[i] / max(1, sum(row)):.1%}"
                for i, (name, row) in enumerate(zip(self.classes, found.confusion, strict=True))
            ]
        return out


def evaluate_any(
    what: str | Path,
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

    The images are normalised as the model was trained, whatever the data set's own statistics are.

    Args:
        what: a run folder, its ``compact/`` folder, or an exported file.
        data: name of the data set; None: the one of the run, for an exported file the run whose
            ``export/`` folder holds it.
        backend: name of the back end that computes the logits; None: PyTorch for a run, ONNX Runtime on the
            CPU for ``.onnx``, and for other files the first that reads them. A run is exported for a back end
            that reads files.
        device: where PyTorch evaluates a run's model: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        batch_size: images at once; None takes 256 for PyTorch and 64 for files. A file of a fixed batch size
            has its own.
        threads: of a back end; None takes the physical cores this process may use.
        workers: processes that decode images.
        trust: load an engine that no manifest vouches for.

    Raises:
        CompressError: a missing or damaged file or device (MISSING), or data that does not fit the model.
    """
    path = Path(what)
    if path.is_dir() or not path.suffix:
        if backend in (None, "torch"):
            return _module(path, data, _device(device), batch_size or 256, workers)
        info = artifact.compact_info(path)
        said, name = OnnxMetadata(info.preprocess, info.classes), data or info.data
    else:
        name = data or _data_of_run(path)
        check_reads(get_backend(backend or _default(path)), path)
        said = _said(path)
    wanted = said.preprocess
    config = RunConfig(batch_size or BATCH, threads or default_threads(), trust=trust, device=_two(device))
    with _loaded(path, backend or _default(path), config) as (runner, used):
        images = load(name, wanted.input_size if wanted else None, workers=workers)
        fits = with_preprocess(images, wanted) if wanted else images
        check_data_fits(ModelInterface(path, runner.image_shape, runner.num_classes, said), fits)
        result = evaluate_logits(runner, fits, batch_size or BATCH)
    return Evaluated(result, images.info.name, said.classes or images.info.classes, used)


def _module(path: Path, data: str | None, where: str, batch_size: int, workers: int) -> Evaluated:
    """Evaluate a run's compact model in PyTorch."""
    info = artifact.compact_info(path)
    model = artifact.load(path).to(where)
    images = load(data or info.data, info.preprocess.input_size, workers=workers)
    _check_classes(len(info.classes), images.info.num_classes, images.info.name)
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
            path, supported_config(runtime, replace(config, batch=_possible(path, config.batch)))
        )
        stack.callback(runner.close)
        yield runner, runtime.name


def _default(path: Path) -> str:
    """The first back end that reads a file: those of the CPU come first."""
    order = ("ort-cpu", "openvino", *all_backends())
    return next((name for name in order if file_kind(path) in all_backends()[name].reads), "ort-cpu")


def _data_of_run(path: Path) -> str:
    """Return the data set of the run whose ``export/`` folder holds a file.

    Raises:
        CompressError: no such run is found, or the manifest does not have the file (``no-data``).
    """
    run = path.resolve().parent.parent
    if (run / "run.json").is_file() and manifest.read(path.parent).entry(path.name) is not None:
        return read_record(run).data.name
    raise CompressError(
        f"no data is given for the file {str(path)!r}, and it lies in no run's export folder",
        hint="give --data NAME",
        code="no-data",
    )


def _said(path: Path) -> OnnxMetadata:
    """What the manifest beside a file says of it, or the file itself."""
    record = manifest.read(path.parent).entry(path.name)
    if record is not None and path.is_file():
        return OnnxMetadata(record.preprocess, record.classes)
    return read_onnx_metadata(path) if path.suffix == ".onnx" and path.is_file() else OnnxMetadata(None, None)


def _possible(path: Path, asked: int) -> int:
    """The batch size a file has fixed, or the one asked for, down to the largest that an engine takes."""
    record = manifest.read(path.parent).entry(path.name) if path.is_file() else None
    if record is not None:
        profile = (record.details.get("build") or {}).get("profile") or {}
        return record.batch if isinstance(record.batch, int) else min(asked, profile.get("max", asked))
    return (OnnxClassifier(path).batch or asked) if path.suffix == ".onnx" else asked


def _two(device: str) -> Literal["cpu", "cuda"]:
    return "cuda" if _device(device) == "cuda" else "cpu"


def _device(name: str) -> str:
    if name not in DEVICES:
        hint = f"{did_you_mean(name, DEVICES)} known: {', '.join(DEVICES)}".strip()
        raise CompressError(f"unknown device {name!r}", hint=hint, code="unknown-device")
    return resolve_device(TrainConfig.model_validate({"device": name}))


def _check_classes(model: int, data: int, name: str) -> None:
    if model != data:
        raise CompressError(
            f"the model tells {model} classes apart, the data {name!r} has {data}",
            hint="give the data it was trained on",
            code="class-count",
        )
