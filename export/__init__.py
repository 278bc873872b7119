"""Exporting: a compact model becomes a file for a runtime, and is released only if it computes the same.

One file a format, found by `compress.export.registry`; the others here are what every format shares: the parity
gate, the manifest, opening and evaluating what was written. Nothing here trains or measures time.
"""

from __future__ import annotations

from compress.export.evaluate import evaluate_onnx
from compress.export.formats.onnx import to_onnx
from compress.export.options import BatchRange, Options
from compress.export.pipeline import ExportResult, export
from compress.export.registry import formats
from compress.export.trust.manifest import FileRecord, Manifest

__all__ = [
    "BatchRange",
    "ExportResult",
    "FileRecord",
    "Manifest",
    "Options",
    "evaluate_onnx",
    "export",
    "formats",
    "to_onnx",
]
