"""``--format onnx``: one ONNX file in any precision, for ONNX Runtime and other runtimes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from compress.core.errors import CompressError
from compress.export.formats import FORMATS, Format
from compress.export.onnx import onnx_filename
from compress.export.onnx.session import OnnxClassifier
from compress.export.options import Precision
from compress.export.trust.manifest import versions
from compress.export.types import BuiltFile, ExportInputs, NotRun, OnnxSource

TOOLS = ("onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "onnxsim")


@FORMATS.register("onnx")
class OnnxFormat(Format):
    """The ONNX file that other formats start from."""

    name = "onnx"
    summary = "one ONNX file"
    runtime = "ONNX Runtime"
    suffix = ".onnx"
    packages: ClassVar[Mapping[str, str]] = {
        "onnx": "onnx",
        "onnxscript": "onnxscript",
        "onnxruntime": "onnxruntime",
    }
    remedies: ClassVar[Mapping[str, str]] = {
        "batch-range": "an ONNX file takes any batch size or one: give --batch dynamic or a number",
    }

    def filename(self, precision: Precision) -> str:
        """Return ``model.onnx``, ``model.fp16.onnx``, ..."""
        return onnx_filename(precision)

    def build(self, inputs: ExportInputs, source: OnnxSource, path: Path) -> BuiltFile:
        """Copy the ONNX file, unless it already is at `path`."""
        if path != source.path:
            path.write_bytes(source.path.read_bytes())
        return BuiltFile(
            inputs=source.inputs,
            outputs=source.outputs,
            precision=source.precision,
            opset=source.opset,
            tools=versions(TOOLS),
        )

    def open(self, path: Path, precision: Precision) -> OnnxClassifier | NotRun:
        """Load the file in ONNX Runtime on the CPU, which has no bfloat16 convolutions."""
        try:
            return OnnxClassifier(path)
        except CompressError as error:
            if precision != "bf16":
                raise
            reason = f"ONNX Runtime's CPU provider: {error.__cause__ or error.message}"
            return NotRun(reason.splitlines()[0])
