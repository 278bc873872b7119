"""One entry for every precision: a float32 ONNX file in, a checked reduced one and its report out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.core.errors import CompressError, Exit
from compress.core.files import atomic_path
from compress.export.options import BF16_OPSET, Precision
from compress.export.precision.graphs import load
from compress.export.precision.half import to_half, unsupported
from compress.export.precision.int8 import to_int8
from compress.export.precision.ranges import largest_values, out_of_range


def reduce(
    source: Path,
    path: Path,
    precision: Precision,
    images: NDArray[np.float32],
    *,
    quantize_ends: bool = False,
) -> dict[str, Any]:
    """Write `source`, an ONNX file in float32, in a lower precision; return the report for the manifest.

    Args:
        source: the float32 file; not changed.
        path: where to write, whole or not at all.
        precision: ``fp16``, ``bf16`` or ``int8``.
        images: float32 `[N, C, H, W]`, preprocessed training images.
        quantize_ends: INT8 for the first and the last layer too.

    Raises:
        CompressError: no images (exit USAGE); the result is no valid ONNX file (exit BUILD).
    """
    from compress.export.formats.onnx import check_file

    if len(images) == 0:
        raise CompressError(
            "the calibration set is empty: the data has no training images",
            hint="give data with training images (--data); ranges are never taken from test images",
            code="no-calibration",
        )
    with atomic_path(path) as temporary:
        if precision == "int8":
            report = to_int8(source, temporary, images, quantize_ends=quantize_ends).to_json()
        else:
            report = _half(source, temporary, precision, images)
        _keep_metadata(source, temporary)
        check_file(temporary)
    return report


def _half(source: Path, path: Path, precision: Precision, images: NDArray[np.float32]) -> dict[str, Any]:
    import onnx

    from compress.export.formats.onnx import opset_of

    assert precision in ("fp16", "bf16"), precision
    model = load(source)
    if precision == "bf16" and opset_of(model) < BF16_OPSET:
        raise CompressError(
            f"the file has opset {opset_of(model)}; ONNX knows bfloat16 convolutions from {BF16_OPSET} on",
            hint=f"export with --opset {BF16_OPSET}, or leave --opset out",
            code="opset",
            exit=Exit.BUILD,
        )
    for i, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{i}"
    kept = unsupported(model, precision)
    if precision == "fp16":
        names = {node.node for node in kept}
        found = out_of_range(model, largest_values(model, images))
        kept += [node for node in found if node.node not in names]
    onnx.save(to_half(model, precision, kept), str(path))
    return {"calibration_images": len(images), "float_nodes": [node.to_json() for node in kept]}


def _keep_metadata(source: Path, path: Path) -> None:
    """Give the reduced file the metadata of the full one, and its names of the tensors' sizes."""
    import onnx

    before, after = onnx.load(str(source)), onnx.load(str(path))
    del after.metadata_props[:]
    onnx.helper.set_model_props(after, {entry.key: entry.value for entry in before.metadata_props})
    onnx.save(after, str(path))
