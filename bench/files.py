"""Dense and compact network of a run as back ends load them: modules, ONNX files or engines."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compress import artifact
from compress.artifact import CompactInfo, RunFolder
from compress.bench.backends import FOLDER, Backend
from compress.bench.dense_network import build_calibrated_dense
from compress.core.errors import CompressError
from compress.core.files import read_json, sha256_file, write_bytes, write_json
from compress.core.garbage_collection import garbage_collection_paused
from compress.export.onnx.exporter import opset_of, to_onnx
from compress.export.trust import manifest

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """The files of the dense and the compact network (the run folder, for modules), and the opset of both.

    Attributes:
        hashes: SHA-256 of both engines, verified when they are loaded; None for other files.
    """

    dense: Path
    compact: Path
    opset: int | None
    hashes: tuple[str, str] | None = None


class Prepared:
    """Dense and compact network of a run in the forms that back ends load; each file is built once."""

    def __init__(self, run: RunFolder) -> None:
        """Read a run that is open for writing; files are built when they are first needed.

        Raises:
            CompressError: it has no compact model (exit MISSING).
        """
        self.run = run
        self.info = artifact.compact_info(run)

    @cached_property
    def onnx(self) -> Pair:
        """The two ONNX files."""
        with garbage_collection_paused():
            return onnx_pair(self.run, self.info)

    def pair(self, backend: Backend, batches: Sequence[int]) -> Pair:
        """Return both networks as a back end loads them.

        Args:
            backend: the back end.
            batches: batch sizes that an engine must take.

        Raises:
            CompressError: the network cannot be exported, or no engine can be built from it (exit BUILD).
        """
        if FOLDER in backend.reads:
            return Pair(self.run.path, self.run.path, None)
        return self.onnx if ".onnx" in backend.reads else engine_pair(self.run, self.onnx, backend, batches)


def engine_pair(run: RunFolder, files: Pair, backend: Backend, batches: Sequence[int]) -> Pair:
    """Return engines of two ONNX files for batches from the smallest to the largest, tuned for the largest.

    They are kept in `bench/models/` and built again if the ONNX file, the batch sizes, the runtime or the GPU
    changes. A JSON file next to each engine records its hash and these inputs.
    """
    from compress.export.formats.tensorrt_build import build_engine  # type: ignore[import-not-found, unused-ignore]
    from compress.export.options import BatchRange, Options  # type: ignore[import-not-found, unused-ignore]

    name = next(iter(backend.packages))
    module: Any = importlib.import_module(name)
    sizes = BatchRange(min(batches), max(batches), max(batches))
    gpus = artifact.this_machine().gpus

    def engine(source: Path, label: str) -> Path:
        path = run.bench / "models" / f"{label}{backend.reads[0]}"
        key = {
            "onnx": sha256_file(source),
            "batch": str(sizes),
            "gpus": ", ".join(gpus),
            name: module.__version__,
        }
        if not _is_current(path, key):
            built = build_engine(module, source, Options(batch=sizes), name)
            write_bytes(path, memoryview(built.data))
            _write_note(path, key)
        return path

    dense, compact = engine(files.dense, "dense"), engine(files.compact, "compact")
    return Pair(dense, compact, files.opset, (sha256_file(dense), sha256_file(compact)))


def onnx_pair(run: RunFolder, info: CompactInfo, model: nn.Module | None = None) -> Pair:
    """Return ONNX files of a run's dense and compact network: float32, any batch size, the same opset.

    The run's exported file is used as the compact one if it matches the manifest, was exported from the
    current compact model, and has neither a fixed batch size nor been simplified. Otherwise both networks are
    exported to `bench/models/`, and reused while their inputs are unchanged.
    """
    folder = run.bench / "models"
    folder.mkdir(parents=True, exist_ok=True)
    example = torch.zeros(1, *info.model.input_size)
    exported = _exported(run, info)
    if exported is None:
        compact = folder / "compact.onnx"
        key = {"weights": info.weights_sha256, "plan": manifest.lineage_of(run, info).plan_sha256}
        opset = _build_cached(
            compact, key, lambda path: to_onnx(artifact.load(run, model=model), example, path)
        )
    else:
        compact, opset = exported
    dense = folder / "dense.onnx"
    key = {"model": info.model.model_dump_json(), "opset": str(opset)}
    _build_cached(
        dense, key, lambda path: to_onnx(build_calibrated_dense(run, model), example, path, opset=opset)
    )
    return Pair(dense, compact, opset)


def _exported(run: RunFolder, info: CompactInfo) -> tuple[Path, int] | None:
    """Return the run's exported file and its opset if it matches the current compact model, or None."""
    try:
        record = manifest.verified_record(run.export, "model.onnx")
    except CompressError as error:
        _log.warning("%s; it is not used", error.message)
        return None
    plain = record is not None and record.batch == "dynamic" and record.precision == "fp32"
    if record is None or record.opset is None or not plain or record.details.get("simplified"):
        return None
    if record.lineage != manifest.lineage_of(run, info):
        return None
    return run.export / "model.onnx", record.opset


def _build_cached(path: Path, key: dict[str, str | None], build: Callable[[Path], int]) -> int:
    """Return the opset of the file at `path`; build it unless it is recorded as built from `key`."""
    import onnx

    inputs = {**key, **manifest.versions(("onnx", "onnxscript"))}
    if _is_current(path, inputs):
        return opset_of(onnx.load(str(path)))
    opset = build(path)
    _write_note(path, inputs)
    return opset


def _is_current(path: Path, inputs: Mapping[str, str | None]) -> bool:
    """Return whether a file is recorded as built from exactly these inputs and is unchanged."""
    note = path.with_suffix(".json")
    if not path.is_file() or not note.is_file():
        return False
    try:
        recorded = read_json(note, what="note of a cached model")
    except CompressError as error:
        _log.debug("%s; the file is built again", error.message)
        return False
    return recorded.get("from") == inputs and recorded.get("sha256") == sha256_file(path)


def _write_note(path: Path, inputs: Mapping[str, str | None]) -> None:
    write_json(path.with_suffix(".json"), {"from": inputs, "sha256": sha256_file(path)})
