"""Write a float32 ONNX file in a lower precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.core.errors import CompressError, Exit
from compress.core.files import atomic_path
from compress.export.onnx.exporter import check_onnx, opset_of
from compress.export.options import BF16_OPSET, Precision
from compress.export.precision.half import to_half, unsupported_nodes
from compress.export.precision.int8 import to_int8
from compress.export.precision.onnx_graph import load_onnx
from compress.export.precision.ranges import largest_values, out_of_range_nodes


def reduce_precision(
    source: Path,
    path: Path,
    precision: Precision,
    images: NDArray[np.float32],
    *,
    quantize_ends: bool = False,
) -> dict[str, Any]:
    """Write a float32 ONNX file in a lower precision and return a report for the manifest.

    Args:
        source: the float32 file.
        path: the file to write; written completely or not at all.
        precision: ``fp16``, ``bf16`` or ``int8``.
        images: float32 `[N, C, H, W]`, preprocessed training images.
        quantize_ends: INT8 for the first and the last layer too.

    Raises:
        CompressError: there are no images (exit USAGE), the operator set lacks the type, or the result is not
            a valid ONNX file (exit BUILD).
    """
    if len(images) == 0:
        raise CompressError(
            "the calibration set is empty: the data has no training images",
            hint="give data with training images (--data); test images are never used for calibration",
            code="no-calibration",
        )
    with atomic_path(path) as temporary:
        if precision == "int8":
            report = to_int8(source, temporary, images, quantize_ends=quantize_ends).to_json()
        else:
            report = _reduce_to_half(source, temporary, precision, images)
        _copy_metadata(source, temporary)
        check_onnx(temporary)
    return report


def _reduce_to_half(
    source: Path, path: Path, precision: Precision, images: NDArray[np.float32]
) -> dict[str, Any]:
    import onnx

    assert precision in ("fp16", "bf16"), precision
    model = load_onnx(source)
    if precision == "bf16" and opset_of(model) < BF16_OPSET:
        raise CompressError(
            f"the file has opset {opset_of(model)}; bfloat16 convolutions need opset {BF16_OPSET}",
            hint=f"export with --opset {BF16_OPSET}, or leave --opset out",
            code="opset",
            exit=Exit.BUILD,
        )
    for i, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{i}"
    kept = unsupported_nodes(model, precision)
    if precision == "fp16":
        names = {node.node for node in kept}
        out_of_range = out_of_range_nodes(model, largest_values(model, images))
        kept += [node for node in out_of_range if node.node not in names]
    onnx.save(to_half(model, precision, kept), str(path))
    return {"calibration_images": len(images), "float_nodes": [node.to_json() for node in kept]}


def _copy_metadata(source: Path, path: Path) -> None:
    """Copy the metadata of the float32 file into the reduced one."""
    import onnx

    before, after = onnx.load(str(source)), onnx.load(str(path))
    del after.metadata_props[:]
    onnx.helper.set_model_props(after, {entry.key: entry.value for entry in before.metadata_props})
    onnx.save(after, str(path))
