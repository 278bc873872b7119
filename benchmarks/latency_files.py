"""What a latency benchmark measures: dense and narrow network of a recipe, as files of every precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.runners import FOLDER, Backend
from bench.runners.registry import RTX_ENGINE
from compress import console
from compress.artifact import CompactInfo, compact_info
from compress.pipeline import TrainRequest, train
from compress.training import NoProgress
from export import export, manifest
from export.options import BatchRange, Precision
from export.registry import format_named

DATA = "digits"
"""Images that made networks are trained on for an epoch, so that norms have statistics and outputs differ."""

SAMPLES = 64


@dataclass(frozen=True)
class Pair:
    """Two runs: of the dense network, and of the narrow one.

    Attributes:
        is_made: whether they were made here, trained for one epoch only.
    """

    dense: Path
    compact: Path
    is_made: bool

    @property
    def costs(self) -> tuple[CompactInfo, CompactInfo]:
        """What is known of both."""
        return compact_info(self.dense), compact_info(self.compact)


def made(recipe: str, folder: Path, device: str) -> Pair:
    """Train the dense network of a recipe and its narrow one for an epoch on the digits, each once."""
    for name, method in (("dense", "dense"), ("compact", "scratch")):
        out = folder / name
        if (out / "compact" / "model.json").is_file():
            continue
        settings = {"epochs": 1, "batch_size": 64, "lr": 0.01, "warmup_epochs": 0.0, "device": device}
        request = TrainRequest(
            method=method,
            recipe=recipe,
            data=DATA,
            settings={**settings, "momentum": 0.9, "tensorboard": False},
            out=out,
            resume=(out / "run.json").is_file(),
        )
        console.note(f"training {name} for an epoch: {out}")
        train(request, progress=NoProgress())
    return Pair(folder / "dense", folder / "compact", True)


def file_of(run: Path, backend: Backend, precision: Precision, batches: Sequence[int], made: bool) -> Path:
    """Return a run's file that a back end reads in a precision, exported once.

    For a network that was made here the gates are open as far as accuracy is concerned: after one epoch on
    small images logits lie so near to each other that agreement says nothing. Trained runs pass them.

    Raises:
        CompressError: it cannot be exported (exit BUILD, MISSING or PARITY).
    """
    format = "onnx" if ".onnx" in backend.reads else "trt-rtx" if RTX_ENGINE in backend.reads else "trt"
    name = format_named(format).filename(precision)
    sizes = BatchRange(min(batches), sorted(batches)[len(batches) // 2], max(batches))
    record = manifest.trusted(run / "export", name) if (run / "export").is_dir() else None
    if record is not None and (format == "onnx" or _profile(record) == sizes.to_json()):
        return run / "export" / name
    open_gates = {"max_relative": 1e6, "min_agreement": 0.0} if made else {}
    batch = "dynamic" if format == "onnx" else sizes
    result = export(run, format, batch=batch, samples=SAMPLES, precision=precision, **open_gates)  # type: ignore[arg-type]
    return result.path


def _profile(record: manifest.FileRecord) -> object:
    return record.details.get("build", {}).get("profile")


def precisions_of(backend: Backend, asked: Sequence[Precision]) -> list[Precision]:
    """Those that a back end can be given: modules of a run folder are FP32."""
    return [precision for precision in asked if FOLDER not in backend.reads or precision == "fp32"]
