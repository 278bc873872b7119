"""``--format openvino``: OpenVINO IR for Intel and other CPUs, from the proven ONNX file of any precision."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from compress.core.errors import CompressError, Exit
from compress.export.options import Batch, BatchRange
from compress.export.registry import Built, Job, NotRun, Precision, Predictor, Source, register
from compress.export.trust.manifest import versions


def compile_settings(precision: str) -> dict[str, str]:
    """Return what to compile a file with, so that it computes in what its precision promises.

    On a CPU with BF16 units OpenVINO computes a float32 file in BF16 unless told otherwise. INT8 layers are
    INT8 under both settings; the layers between are float32. A CPU has no FP16 arithmetic that every model
    may use: an FP16 file is computed in float32 there.
    """
    return {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}


@register
class OpenVINOFormat:
    """``--format openvino``: `model.PRECISION.xml` with its weights in `.bin`, run on the CPU."""

    name = "openvino"
    runtime = "OpenVINO"
    requires: ClassVar[Mapping[str, str]] = {"openvino": "openvino", "onnx": "onnx"}
    honours = frozenset({"opset", "simplify", "batch-range"})
    refusals: ClassVar[Mapping[str, str]] = {}

    def filename(self, precision: Precision) -> str:
        """``model.fp32.xml``; the weights are in ``model.fp32.bin``."""
        return f"model.{precision}.xml"

    def build(self, job: Job, source: Source, path: Path) -> Built:
        """Convert the proven ONNX file; no type in it is changed."""
        import openvino

        try:
            model = openvino.convert_model(str(source.path))
            _bound(openvino, model, job.options.batch)
            openvino.save_model(model, str(path), compress_to_fp16=False)
        except Exception as error:  # its front ends raise RuntimeError and classes of their own
            raise _refused(error, source.path) from error
        return Built(
            inputs=source.inputs,
            outputs=source.outputs,
            precision=source.precision,
            opset=source.opset,
            tools=versions(("onnx", "onnxruntime", "onnxruntime-gpu", "openvino")),
            details={"build": _record(openvino, job.options.batch, source.precision)},
            companions=(path.with_suffix(".bin").name,),
        )

    def open(self, path: Path, precision: Precision) -> Predictor | NotRun:
        """Compile the network for this machine's CPU."""
        try:
            return OpenVINOClassifier(path, precision)
        except RuntimeError as error:
            raise CompressError(
                f"OpenVINO cannot compile the network for this CPU: {_words(error)}",
                hint="try another --precision or --batch, or export with --format onnx",
                code="build-failed",
                exit=Exit.BUILD,
            ) from error


def _bound(openvino: Any, model: Any, batch: Batch) -> None:
    """Write a range of batch sizes into the network; a fixed or a free size is there already."""
    if isinstance(batch, BatchRange):
        shape = model.input(0).get_partial_shape()
        shape[0] = openvino.Dimension(batch.min, batch.max)
        model.reshape({model.input(0): shape})


def _record(openvino: Any, batch: Batch, precision: str) -> dict[str, Any]:
    sizes = BatchRange(batch, batch, batch) if isinstance(batch, int) else batch
    return {
        "flags": ["compress_to_fp16=False"],
        "runtime": "openvino",
        "runtime_version": openvino.__version__,
        "target_sm": None,
        "workspace_mb": None,
        "timing_cache": None,
        "hardware_compat": False,
        "version_compat": False,
        "profile": sizes.to_json() if isinstance(sizes, BatchRange) else None,
        "compile_settings": compile_settings(precision),
    }


class OpenVINOClassifier:
    """An OpenVINO IR classifier on the CPU."""

    def __init__(self, path: Path, precision: str) -> None:
        import openvino

        core = openvino.Core()
        self._compiled = core.compile_model(str(path), "CPU", compile_settings(precision))
        first = self._compiled.input(0).get_partial_shape()[0]
        self._least, self._most = first.get_min_length(), first.get_max_length()

    @property
    def batch(self) -> int | None:
        """The fixed batch size, or None for any."""
        fixed: int | None = self._least if self._least == self._most else None
        return fixed

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 `[N, classes]` for float32 `[N, C, H, W]`."""
        size = self._most if self._most > 0 else len(images)
        return np.concatenate([self._run(images[i : i + size]) for i in range(0, len(images), size)])

    def _run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        full = np.zeros((max(len(images), self._least), *images.shape[1:]), dtype=np.float32)
        full[: len(images)] = images
        result: NDArray[np.float32] = self._compiled(full)[0][: len(images)].copy()
        return result


def _refused(error: BaseException, path: Path) -> CompressError:
    """The error of a network that OpenVINO does not know how to convert, with the node where it says one."""
    import onnx

    text = _words(error)
    unknown = re.findall(r"(\w+)-\d+", text.partition("for operations:")[2])
    nodes = [node for node in onnx.load(str(path)).graph.node if node.op_type in unknown]
    where = f"node {nodes[0].name!r} ({nodes[0].op_type})" if nodes else "the network"
    return CompressError(
        f"OpenVINO cannot convert {where}: {text}",
        hint="replace the operator in the network, try another --opset, or export with --format onnx",
        code="unsupported",
        exit=Exit.BUILD,
        details={"nodes": [{"node": node.name, "operator": node.op_type} for node in nodes]},
    )


def _words(error: BaseException) -> str:
    """What OpenVINO says, in one line, without where in its sources it says it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(("Exception from", "Check '", "Summary:"))]
    return " ".join(said or lines or [type(error).__name__])
