"""``--format trt``: a TensorRT engine for this machine's GPU."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from compress.core.files import write_bytes
from compress.export.formats import FORMATS, Format
from compress.export.formats.tensorrt_build import build_engine
from compress.export.options import Precision
from compress.export.trust.manifest import versions
from compress.export.types import BuiltFile, ExportInputs, NotRun, OnnxSource, Predictor


class EngineFormat(Format):
    """An engine built by `tensorrt` or `tensorrt_rtx`, which share one interface.

    Attributes:
        module: the Python module that builds the engine.
    """

    module: ClassVar[str]

    def build(self, inputs: ExportInputs, source: OnnxSource, path: Path) -> BuiltFile:
        """Parse the ONNX file and build the engine."""
        module: Any = importlib.import_module(self.module)
        engine = build_engine(module, source.path, inputs.options, self.runtime)
        write_bytes(path, memoryview(engine.data))
        return BuiltFile(
            inputs=source.inputs,
            outputs=source.outputs,
            precision=source.precision,
            opset=source.opset,
            tools=versions(("onnx", "onnxruntime", "onnxruntime-gpu", self.module)),
            details={"build": engine.build},
        )

    def open(self, path: Path, precision: Precision) -> Predictor | NotRun:
        """Load the engine on this machine's GPU, if there is one that it fits."""
        from compress.export.formats.tensorrt_engine import open_engine

        return open_engine(importlib.import_module(self.module), path, self.runtime)


@FORMATS.register("trt")
class TensorRTFormat(EngineFormat):
    """An engine built on the GPU it is for."""

    name = "trt"
    summary = "TensorRT engine for this machine's NVIDIA GPU"
    module = "tensorrt"
    runtime = "TensorRT"
    suffix = ".engine"
    packages: ClassVar[Mapping[str, str]] = {"tensorrt": "tensorrt", "onnx": "onnx"}
    options = frozenset(
        {
            "opset",
            "simplify",
            "batch-range",
            "timing_cache",
            "workspace_mb",
            "hardware_compat",
            "version_compat",
        }
    )
    remedies: ClassVar[Mapping[str, str]] = {
        "target_sm": "TensorRT builds for the GPU of this machine; --format trt-rtx compiles for other GPUs, "
        "--hardware-compat makes an engine that runs on them",
    }
