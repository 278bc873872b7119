"""``--format trt-rtx``: a TensorRT-RTX engine for NVIDIA RTX GPUs, built on any machine.

The engine is compiled ahead of time for the GPUs of ``--target-sm``; its kernels are chosen when it is
loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from compress.export.formats import FORMATS
from compress.export.formats.trt import EngineFormat


@FORMATS.register("trt-rtx")
class TensorRTRTXFormat(EngineFormat):
    """An engine for RTX GPUs; building it needs no GPU."""

    name = "trt-rtx"
    summary = "TensorRT-RTX engine for NVIDIA RTX GPUs"
    module = "tensorrt_rtx"
    runtime = "TensorRT-RTX"
    suffix = ".rtx.engine"
    packages: ClassVar[Mapping[str, str]] = {"tensorrt_rtx": "tensorrt-rtx", "onnx": "onnx"}
    options = frozenset({"opset", "simplify", "batch-range", "workspace_mb", "target_sm"})
    remedies: ClassVar[Mapping[str, str]] = {
        "timing_cache": "TensorRT-RTX measures nothing while it builds (since 1.2 its cache has no effect); "
        "leave it out",
        "hardware_compat": "an RTX engine runs on every GPU named by --target-sm; name them all there",
        "version_compat": "TensorRT-RTX has no lean runtime; export again with the new version",
    }
