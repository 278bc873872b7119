"""Export a compact model to a file for a runtime, and release the file only if it computes the same.

    from compress.export import export
    result = export("runs/a", format="openvino", precision="int8")

Reading order: `pipeline` (the whole export), `source` (the ONNX files every format starts from), `formats/`
(one file per target), `parity/` (the check before release), `precision/` (FP16, BF16, INT8), `trust/`
(manifest, signature, verification), `deploy/` (inference script, Triton). Names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.core.lazy import lazy_attributes

if TYPE_CHECKING:
    from compress.export.evaluate import evaluate_onnx
    from compress.export.formats import FORMATS, Format, list_formats
    from compress.export.onnx.exporter import to_onnx
    from compress.export.options import BatchRange, Options
    from compress.export.pipeline import export
    from compress.export.result import ExportResult, ExportResults
    from compress.export.trust.manifest import FileRecord, Manifest
    from compress.export.trust.verify import verify_folder

_MODULES = {
    "FORMATS": "formats",
    "BatchRange": "options",
    "ExportResult": "result",
    "ExportResults": "result",
    "FileRecord": "trust.manifest",
    "Format": "formats",
    "Manifest": "trust.manifest",
    "Options": "options",
    "evaluate_onnx": "evaluate",
    "export": "pipeline",
    "list_formats": "formats",
    "to_onnx": "onnx.exporter",
    "verify_folder": "trust.verify",
}

__all__ = [
    "FORMATS",
    "BatchRange",
    "ExportResult",
    "ExportResults",
    "FileRecord",
    "Format",
    "Manifest",
    "Options",
    "evaluate_onnx",
    "export",
    "list_formats",
    "to_onnx",
    "verify_folder",
]

__getattr__ = lazy_attributes(__name__, _MODULES)
