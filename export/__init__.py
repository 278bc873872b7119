"""Exporting: a compact model becomes a file for a runtime, and is released only if it computes the same.

One file a format, found by `export.registry`; the others here are what every format shares: the parity
gate, the manifest, opening and evaluating what was written. Nothing here trains or measures time.
"""

from __future__ import annotations

from export.evaluate import evaluate_onnx
from export.manifest import FileRecord, Manifest
from export.onnx import to_onnx
from export.options import BatchRange, Options
from export.pipeline import ExportResult, export
from export.registry import formats

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
