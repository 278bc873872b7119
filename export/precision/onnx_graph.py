"""Inspect and run ONNX models in memory, and split images into batches that fit them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCH = 32
"""Images per batch if the file leaves the batch size free."""


def load_onnx(path: Path) -> Any:
    """Return an ONNX model with the types of its inner tensors."""
    import onnx

    return onnx.shape_inference.infer_shapes(onnx.load(str(path)))


def element_types(model: Any) -> dict[str, int]:
    """Return the ONNX element type of every tensor with a known type, including weights."""
    graph = model.graph
    types = {
        value.name: int(value.type.tensor_type.elem_type)
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    return types | {weight.name: int(weight.data_type) for weight in graph.initializer}


def float_outputs(model: Any) -> list[str]:
    """Return the names of the float32 outputs of all nodes, in the graph's order."""
    import onnx

    types = element_types(model)
    names = (name for node in model.graph.node for name in node.output)
    return [name for name in names if types.get(name) == onnx.TensorProto.FLOAT]


def with_outputs(model: Any, names: Sequence[str]) -> Any:
    """Return a copy of the model with the float32 tensors `names` as further outputs."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {value.name for value in copy.graph.output}
    copy.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in names
        if name not in known
    )
    return copy


def open_model(model: Any, *, optimize: bool = True) -> Any:
    """Return an ONNX Runtime session on the CPU for a model in memory."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.inter_op_num_threads = 1
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def fixed_batch(model: Any) -> int | None:
    """Return the batch size of the model's input, or None if it is free."""
    first = model.graph.input[0].type.tensor_type.shape.dim[0]
    return int(first.dim_value) if first.HasField("dim_value") else None


def split_batches(
    images: NDArray[np.float32], batch: int | None, *, free_batch: int = BATCH
) -> Iterator[NDArray[np.float32]]:
    """Yield the images in batches that a model takes; the last one is filled up with the first images.

    Args:
        images: float32 `[N, C, H, W]`, N from 1.
        batch: the model's fixed batch size, or None.
        free_batch: images per batch if the model's size is free.
    """
    size = batch or free_batch
    for start in range(0, len(images), size):
        part = images[start : start + size]
        if batch is not None and len(part) < batch:
            part = np.resize(np.concatenate([part, images]), (batch, *images.shape[1:]))
        yield np.ascontiguousarray(part)
