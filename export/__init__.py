"""Exporting: a compact model becomes a file for a runtime, and is released only if it computes the same.

One file a format, found by `compress.export.registry`; the other modules are shared by all formats: the parity
check, the manifest, opening and evaluating what was written. Nothing here trains or measures time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.core.lazy import lazy_attributes

if TYPE_CHECKING:
    from compress.export.evaluate import evaluate_onnx
    from compress.export.formats.onnx import to_onnx
    from compress.export.options import BatchRange, Options
    from compress.export.pipeline import ExportResult, export
    from compress.export.trust.manifest import FileRecord, Manifest

_HOMES = {
    "BatchRange": "options",
    "ExportResult": "pipeline",
    "FileRecord": "trust.manifest",
    "Manifest": "trust.manifest",
    "Options": "options",
    "evaluate_onnx": "evaluate",
    "export": "pipeline",
    "to_onnx": "formats.onnx",
}

__all__ = [
    "BatchRange",
    "ExportResult",
    "FileRecord",
    "Manifest",
    "Options",
    "evaluate_onnx",
    "export",
    "to_onnx",
]

__getattr__ = lazy_attributes(__name__, _HOMES)
