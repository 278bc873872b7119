"""ONNX files: written from a module, simplified, and run in ONNX Runtime."""

from __future__ import annotations


def onnx_filename(precision: str) -> str:
    """Return the name of an exported ONNX file: ``model.onnx`` for fp32, else such as ``model.int8.onnx``."""
    return "model.onnx" if precision == "fp32" else f"model.{precision}.onnx"
