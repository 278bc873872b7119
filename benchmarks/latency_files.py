"""What a latency benchmark measures: dense and narrow network of a recipe, as files of every precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compress.artifact import CompactInfo, compact_info
from compress.bench.backends import FOLDER, Backend
from compress.bench.backends.registry import RTX_ENGINE
from compress.core import console
from compress.core.files import atomic_path
from compress.export import export
from compress.export.options import Batch, BatchRange, Precision
from compress.export.registry import format_named
from compress.export.trust import manifest
from compress.pipeline import TrainRequest, train
from compress.recipes import load
from compress.training import NoProgress

IMAGES = 64
"""Images of noise that made networks are trained on and compared with: norms then have statistics."""

SETTINGS = {"epochs": 2, "batch_size": 16, "lr": 0.01, "momentum": 0.9, "warmup_epochs": 0.0}
"""A training that costs little; latency does not depend on what weights have learned."""


@dataclass(frozen=True)
class Pair:
    """Two runs: of the dense network, and of the narrow one.

    Attributes:
        is_made: whether they were made here, of noise.
    """

    dense: Path
    compact: Path
    is_made: bool

    @property
    def costs(self) -> tuple[CompactInfo, CompactInfo]:
        """What is known of both."""
        return compact_info(self.dense), compact_info(self.compact)


def made(recipe: str, folder: Path, device: str) -> Pair:
    """Train the dense network of a recipe and its narrow one for a few steps on noise, each once."""
    data = f"npz:{noise(recipe, folder)}"
    for name, method in (("dense", "dense"), ("compact", "scratch")):
        out = folder / name
        if (out / "compact" / "model.json").is_file():
            continue
        request = TrainRequest(
            method=method,
            recipe=recipe,
            data=data,
            settings={**SETTINGS, "device": device, "tensorboard": False},
            out=out,
            resume=(out / "run.json").is_file(),
        )
        console.print_message(f"making {out}: {IMAGES} images of noise")
        train(request, progress=NoProgress())
    return Pair(folder / "dense", folder / "compact", True)


def noise(recipe: str, folder: Path) -> Path:
    """Write an archive of noise in the size and with the classes of a recipe, once; return its path."""
    path = folder / "noise.npz"
    found = load(recipe)
    assert found.input_size is not None
    assert found.num_classes is not None
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    arrays = {}
    for part in ("train", "test"):
        arrays[f"x_{part}"] = random.integers(0, 256, (IMAGES, *found.input_size), dtype=np.uint8)
        arrays[f"y_{part}"] = random.integers(0, found.num_classes, IMAGES)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays, classes=np.array([str(c) for c in range(found.num_classes)]))
    return path


def file_of(run: Path, backend: Backend, precision: Precision, batches: Sequence[int], made: bool) -> Path:
    """Return a run's file that a back end reads in a precision, exported once.

    For a network that was made here the gates are open: after a few steps on noise logits lie so near to
    each other that agreement says nothing. Trained runs must pass them.

    Raises:
        CompressError: it cannot be exported (exit BUILD, MISSING or PARITY).
    """
    format = "onnx" if ".onnx" in backend.reads else "trt-rtx" if RTX_ENGINE in backend.reads else "trt"
    name = format_named(format).filename(precision)
    sizes = BatchRange(min(batches), sorted(batches)[len(batches) // 2], max(batches))
    record = manifest.trusted(run / "export", name) if (run / "export").is_dir() else None
    if record is not None and (format == "onnx" or _profile(record) == sizes.to_json()):
        return run / "export" / name
    gates: dict[str, Any] = {"max_relative": 1e6, "min_agreement": 0.0} if made else {}
    few: dict[str, Any] = {"samples": IMAGES, "calib_images": IMAGES} if made else {}
    batch: Batch = "dynamic" if format == "onnx" else sizes
    return export(run, format, batch=batch, precision=precision, **gates, **few).path


def _profile(record: manifest.FileRecord) -> object:
    return record.details.get("build", {}).get("profile")


def precisions_of(backend: Backend, asked: Sequence[Precision]) -> list[Precision]:
    """Those that a back end can be given: modules of a run folder are FP32."""
    return [precision for precision in asked if FOLDER not in backend.reads or precision == "fp32"]
