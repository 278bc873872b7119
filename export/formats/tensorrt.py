"""``--format trt`` and ``--format trt-rtx``: engines for NVIDIA GPUs, by one code path.

TensorRT builds on the GPU it builds for. TensorRT-RTX builds ahead of time, on any machine, for the RTX GPUs
named by ``--target-sm``; its kernels are chosen when the engine is loaded.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from compress.core.files import write_bytes
from compress.export.formats.tensorrt_build import build_engine
from compress.export.formats.tensorrt_engine import open_engine
from compress.export.registry import Built, Job, NotRun, Precision, Predictor, Source, register
from compress.export.trust.manifest import versions


class _Engine:
    """What the two formats share; they differ in the module and in what it can honour."""

    module: str
    runtime: str
    suffix: str

    def filename(self, precision: Precision) -> str:
        """``model.fp16.engine`` or ``model.fp16.rtx.engine``."""
        return f"model.{precision}{self.suffix}"

    def build(self, job: Job, source: Source, path: Path) -> Built:
        """Parse the proven ONNX file and build."""
        module: Any = importlib.import_module(self.module)
        engine = build_engine(module, source.path, job.options, self.runtime)
        write_bytes(path, memoryview(engine.data))
        return Built(
            inputs=source.inputs,
            outputs=source.outputs,
            precision=source.precision,
            opset=source.opset,
            tools=versions(("onnx", "onnxruntime", "onnxruntime-gpu", self.module)),
            details={"build": engine.build},
        )

    def open(self, path: Path, precision: Precision) -> Predictor | NotRun:
        """Load the engine on this machine's GPU, if it has one that the engine fits."""
        return open_engine(importlib.import_module(self.module), path, self.runtime)


@register
class TensorRTFormat(_Engine):
    """``--format trt``: an engine for this machine's GPU, by TensorRT."""

    name = "trt"
    module = "tensorrt"
    runtime = "TensorRT"
    suffix = ".engine"
    requires: ClassVar[Mapping[str, str]] = {"tensorrt": "tensorrt", "onnx": "onnx"}
    honours = frozenset(
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
    refusals: ClassVar[Mapping[str, str]] = {
        "target_sm": "TensorRT builds for the GPU of this machine; --format trt-rtx compiles for others, "
        "--hardware-compat runs on others",
    }


@register
class TensorRTRTXFormat(_Engine):
    """``--format trt-rtx``: an engine for RTX GPUs, built on any machine, by TensorRT-RTX."""

    name = "trt-rtx"
    module = "tensorrt_rtx"
    runtime = "TensorRT-RTX"
    suffix = ".rtx.engine"
    requires: ClassVar[Mapping[str, str]] = {"tensorrt_rtx": "tensorrt-rtx", "onnx": "onnx"}
    honours = frozenset({"opset", "simplify", "batch-range", "workspace_mb", "target_sm"})
    refusals: ClassVar[Mapping[str, str]] = {
        "timing_cache": "TensorRT-RTX times nothing when it builds (since 1.2 the cache does nothing); "
        "leave it out",
        "hardware_compat": "an RTX engine runs on every GPU named by --target-sm; name them all there",
        "version_compat": "TensorRT-RTX ships no lean runtime; export again with the new version",
    }
