"""``--format openvino``: OpenVINO IR for Intel and other CPUs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from compress.core.errors import CompressError, Exit
from compress.export.formats import FORMATS, Format
from compress.export.options import Batch, BatchRange, Precision
from compress.export.trust.manifest import versions
from compress.export.types import BuiltFile, ExportInputs, NotRun, OnnxSource, Predictor


def compile_settings(precision: str) -> dict[str, str]:
    """Return OpenVINO's compile settings that make a file compute in its precision.

    On a CPU with BF16 units OpenVINO computes a float32 file in BF16 by default. INT8 layers are INT8 under
    both settings; the layers between them are float32. OpenVINO has no FP16 arithmetic for every CPU model:
    an FP16 file is computed in float32.
    """
    return {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}


@FORMATS.register("openvino")
class OpenVINOFormat(Format):
    """``model.PRECISION.xml`` with its weights in ``.bin``, run on the CPU."""

    name = "openvino"
    summary = "OpenVINO IR (.xml and .bin)"
    runtime = "OpenVINO"
    suffix = ".xml"
    packages: ClassVar[Mapping[str, str]] = {"openvino": "openvino", "onnx": "onnx"}
    options = frozenset({"opset", "simplify", "batch-range"})

    def build(self, inputs: ExportInputs, source: OnnxSource, path: Path) -> BuiltFile:
        """Convert the ONNX file without changing any of its types."""
        import openvino

        try:
            model = openvino.convert_model(str(source.path))
            _limit_batch(openvino, model, inputs.options.batch)
            openvino.save_model(model, str(path), compress_to_fp16=False)
        except Exception as error:  # its front ends raise RuntimeError and classes of their own
            raise _conversion_error(error, source.path) from error
        return BuiltFile(
            inputs=source.inputs,
            outputs=source.outputs,
            precision=source.precision,
            opset=source.opset,
            tools=versions(("onnx", "onnxruntime", "onnxruntime-gpu", "openvino")),
            details={"build": _build_record(openvino, inputs.options.batch, source.precision)},
            companions=(path.with_suffix(".bin").name,),
        )

    def open(self, path: Path, precision: Precision) -> Predictor | NotRun:
        """Compile the network for this machine's CPU."""
        try:
            return OpenVINOClassifier(path, precision)
        except RuntimeError as error:
            raise CompressError(
                f"OpenVINO cannot compile {path.name} for this CPU: {_message_of(error)}",
                hint="try another --precision or --batch, or export with --format onnx",
                code="build-failed",
                exit=Exit.BUILD,
            ) from error


def _limit_batch(openvino: Any, model: Any, batch: Batch) -> None:
    """Write a range of batch sizes into the network; a fixed or a free size comes from the ONNX file."""
    if isinstance(batch, BatchRange):
        shape = model.input(0).get_partial_shape()
        shape[0] = openvino.Dimension(batch.min, batch.max)
        model.reshape({model.input(0): shape})


def _build_record(openvino: Any, batch: Batch, precision: str) -> dict[str, Any]:
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
        self._min, self._max = first.get_min_length(), first.get_max_length()

    @property
    def batch(self) -> int | None:
        """The fixed batch size, or None for any."""
        fixed: int | None = self._min if self._min == self._max else None
        return fixed

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 `[N, classes]` for float32 `[N, C, H, W]`."""
        size = self._max if self._max > 0 else len(images)
        return np.concatenate([self._run(images[i : i + size]) for i in range(0, len(images), size)])

    def _run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        padded = np.zeros((max(len(images), self._min), *images.shape[1:]), dtype=np.float32)
        padded[: len(images)] = images
        result: NDArray[np.float32] = self._compiled(padded)[0][: len(images)].copy()
        return result


def _conversion_error(error: BaseException, path: Path) -> CompressError:
    """Return the error of a network that OpenVINO cannot convert, with the node if OpenVINO names one."""
    import onnx

    text = _message_of(error)
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


def _message_of(error: BaseException) -> str:
    """Return OpenVINO's message in one line, without the places in its sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = [line for line in lines if not line.startswith(("Exception from", "Check '", "Summary:"))]
    return " ".join(message or lines or [type(error).__name__])
