"""Reduced precision: an ONNX file in float32 becomes one in FP16, BF16 or INT8.

Precision lives in the file, not in a runtime's flags, so that every runtime computes the same. A file a
precision: what comes in is a float32 ONNX file and real training images, what goes out is an ONNX file with
float32 inputs and outputs and a report of what stayed in float32 and why. Nothing here trains.
"""

from __future__ import annotations

from compress.export.precision.convert import reduce

__all__ = ["reduce"]
