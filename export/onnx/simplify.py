"""onnxsim in a separate process; its result is kept only if it is smaller and computes the same.

Simplifiers change little on the graphs of torch's exporter, and some versions have crashed or changed
outputs.
"""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.core.errors import CompressError
from compress.export.onnx.session import OnnxClassifier

TIMEOUT_S = 300.0
"""Seconds after which the simplifier is stopped."""

MAX_RELATIVE = 1e-5
"""Largest allowed difference of an output before and after, as a share of the largest logit."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SimplifyReport:
    """Outcome of `simplify`: whether the result was kept and why, nodes and bytes before and after."""

    kept: bool
    reason: str
    nodes_before: int
    bytes_before: int
    nodes_after: int | None = None
    bytes_after: int | None = None
    max_rel: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return dataclasses.asdict(self)


def simplify(path: Path, images: NDArray[np.float32], *, timeout_s: float = TIMEOUT_S) -> SimplifyReport:
    """Simplify an ONNX file in place if the result is smaller and its outputs are the same.

    Args:
        path: the file; replaced in one step, or left unchanged.
        images: float32 `[N, C, H, W]`, real preprocessed images to compare the outputs on.
        timeout_s: seconds the simplifier may take.
    """
    with tempfile.TemporaryDirectory(prefix=".simplify-", dir=path.parent) as folder:
        result = Path(folder) / path.name
        failure = _run_onnxsim(path, result, timeout_s)
        report = _compare(path, result, images, failure)
        if report.kept:
            result.replace(path)
    _log.log(logging.INFO if report.kept else logging.WARNING, "onnxsim: %s", report.reason)
    return report


def _run_onnxsim(source: Path, result: Path, timeout_s: float) -> str | None:
    """Run onnxsim in a process of its own; return the reason of a failure, or None."""
    command = [sys.executable, "-m", "onnxsim", str(source), str(result)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return f"it took longer than {timeout_s:g} seconds"
    if done.returncode != 0:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        return f"it failed with status {done.returncode}: {lines[-1].strip() if lines else 'no message'}"
    return None if result.is_file() else "it wrote no file"


def _compare(path: Path, result: Path, images: NDArray[np.float32], failure: str | None) -> SimplifyReport:
    """Decide whether `result` may replace `path`."""
    nodes, size = _node_count(path), path.stat().st_size
    if failure is not None:
        return SimplifyReport(False, f"dropped: {failure}", nodes, size)
    try:
        _copy_metadata(path, result)
        after_nodes, after_size = _node_count(result), result.stat().st_size
        before, after = OnnxClassifier(path), OnnxClassifier(result)
    except CompressError as error:
        return SimplifyReport(False, f"dropped: {error.message}", nodes, size)
    except Exception as error:  # onnx raises protobuf's and its own errors for a damaged file
        return SimplifyReport(False, f"dropped: its file cannot be read: {error}", nodes, size)
    difference = None
    if _interface(before) != _interface(after):
        reason = "dropped: it changed the inputs or outputs"
    elif after_nodes > nodes or after_size > size or (after_nodes, after_size) == (nodes, size):
        reason = "dropped: its file is not smaller"
    else:
        difference = _relative_difference(before.logits(images), after.logits(images))
        reason = "kept" if difference <= MAX_RELATIVE else f"dropped: outputs differ by {difference:.2g}"
    return SimplifyReport(reason == "kept", reason, nodes, size, after_nodes, after_size, difference)


def _relative_difference(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    """Return the largest difference as a share of the largest logit; infinite if a value is not finite."""
    with np.errstate(invalid="ignore"):  # infinite minus infinite is not a number, which counts as infinite
        largest = float(np.abs(before.astype(np.float64) - after).max())
    relative = largest / max(float(np.abs(before).max()), float(np.finfo(np.float32).tiny))
    return relative if np.isfinite(relative) else float("inf")


def _interface(model: OnnxClassifier) -> list[tuple[str, str, tuple[int | None, ...]]]:
    """Return names, types and fixed sizes of the inputs and outputs; None for a size that is free."""
    return [
        (tensor.name, tensor.dtype, tuple(size if isinstance(size, int) else None for size in tensor.shape))
        for tensor in (*model.inputs, *model.outputs)
    ]


def _node_count(path: Path) -> int:
    import onnx

    return len(onnx.load(str(path), load_external_data=False).graph.node)


def _copy_metadata(source: Path, result: Path) -> None:
    """Copy the metadata of the original into the simplified file."""
    import onnx

    before, after = onnx.load(str(source)), onnx.load(str(result))
    del after.metadata_props[:]
    onnx.helper.set_model_props(after, {entry.key: entry.value for entry in before.metadata_props})
    onnx.save(after, str(result))
    onnx.checker.check_model(str(result), full_check=True)
