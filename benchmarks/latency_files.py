"""Exported files for the latency benchmarks: a recipe's dense and compact networks in every precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compress.artifact import CompactInfo, compact_info
from compress.bench.backends import FOLDER, RTX_ENGINE, Backend
from compress.core import console
from compress.core.files import atomic_path
from compress.export import export
from compress.export.formats import get_format
from compress.export.options import Batch, BatchRange, Precision
from compress.export.trust import manifest
from compress.pipeline import TrainRequest, run_training
from compress.recipes import load
from compress.training import NoProgress

IMAGES = 64
"""Number of random images for training and comparison; training gives the batch norms statistics."""

SETTINGS = {"epochs": 2, "batch_size": 16, "lr": 0.01, "momentum": 0.9, "warmup_epochs": 0.0}
"""A short training; latency does not depend on the values of the weights."""


@dataclass(frozen=True)
class RunPair:
    """Run folders of a dense network and its compact network.

    Attributes:
        is_random: whether they were trained on random images.
    """

    dense: Path
    compact: Path
    is_random: bool

    @property
    def costs(self) -> tuple[CompactInfo, CompactInfo]:
        """Costs and specification of the dense and the compact run's model."""
        return compact_info(self.dense), compact_info(self.compact)


def train_on_noise(recipe: str, folder: Path, device: str) -> RunPair:
    """Train a recipe's dense and compact network for a few steps on random images, unless already done."""
    data = f"npz:{write_noise(recipe, folder)}"
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
        console.print_message(f"training {out} on {IMAGES} random images")
        run_training(request, progress=NoProgress())
    return RunPair(folder / "dense", folder / "compact", True)


def write_noise(recipe: str, folder: Path) -> Path:
    """Write random images with a recipe's size and classes to an archive, if missing; return its path."""
    path = folder / "noise.npz"
    settings = load(recipe)
    assert settings.input_size is not None
    assert settings.num_classes is not None
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    arrays = {}
    for part in ("train", "test"):
        arrays[f"x_{part}"] = random.integers(0, 256, (IMAGES, *settings.input_size), dtype=np.uint8)
        arrays[f"y_{part}"] = random.integers(0, settings.num_classes, IMAGES)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays, classes=np.array([str(c) for c in range(settings.num_classes)]))
    return path


def exported_file(
    run: Path, backend: Backend, precision: Precision, batches: Sequence[int], is_random: bool
) -> Path:
    """Return a run's file in a precision and in the format a back end reads; export it on first use.

    Parity is not checked for a network trained on random images: its logits are so close to each other that
    the agreement of predicted classes is meaningless. Trained runs must pass the check.

    Raises:
        CompressError: the export fails (exit BUILD, MISSING or PARITY).
    """
    format = "onnx" if ".onnx" in backend.reads else "trt-rtx" if RTX_ENGINE in backend.reads else "trt"
    name = get_format(format).filename(precision)
    sizes = BatchRange(min(batches), sorted(batches)[len(batches) // 2], max(batches))
    record = manifest.verified_record(run / "export", name) if (run / "export").is_dir() else None
    if record is not None and (format == "onnx" or _profile(record) == sizes.to_json()):
        return run / "export" / name
    limits: dict[str, Any] = {"max_relative": 1e6, "min_agreement": 0.0} if is_random else {}
    counts: dict[str, Any] = {"samples": IMAGES, "calib_images": IMAGES} if is_random else {}
    batch: Batch = "dynamic" if format == "onnx" else sizes
    return export(run, format, batch=batch, precision=precision, **limits, **counts).path


def _profile(record: manifest.FileRecord) -> object:
    return record.details.get("build", {}).get("profile")


def supported_precisions(backend: Backend, precisions: Sequence[Precision]) -> list[Precision]:
    """Return the precisions that a back end can run; back ends that read run folders only run FP32."""
    return [precision for precision in precisions if FOLDER not in backend.reads or precision == "fp32"]
