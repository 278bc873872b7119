"""ONNX graphs in memory: looking inside, running them, keeping the images that fit them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCH = 32
"""Images run at once where a file leaves the batch size free."""


def load(path: Path) -> Any:
    """Return an ONNX model with the types of its inner tensors."""
    import onnx

    return onnx.shape_inference.infer_shapes(onnx.load(str(path)))


def types_of(model: Any) -> dict[str, int]:
    """Return the ONNX element type of every tensor whose type is known, weights too."""
    graph = model.graph
    found = {
        value.name: int(value.type.tensor_type.elem_type)
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    return found | {weight.name: int(weight.data_type) for weight in graph.initializer}


def float_outputs(model: Any) -> list[str]:
    """Return the float32 tensors that nodes compute, in the graph's order."""
    import onnx

    types = types_of(model)
    names = (name for node in model.graph.node for name in node.output)
    return [name for name in names if types.get(name) == onnx.TensorProto.FLOAT]


def with_outputs(model: Any, names: Sequence[str]) -> Any:
    """Return a copy of the model that also answers with the float32 tensors `names`."""
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


def open_model(model: Any, *, optimise: bool = True) -> Any:
    """Return an ONNX Runtime session of a model in memory, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.inter_op_num_threads = 1
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def fixed_batch(model: Any) -> int | None:
    """Return the batch size of the model's input, or None where it is free."""
    first = model.graph.input[0].type.tensor_type.shape.dim[0]
    return int(first.dim_value) if first.HasField("dim_value") else None


def chunks(
    images: NDArray[np.float32], batch: int | None, *, at_once: int = BATCH
) -> Iterator[NDArray[np.float32]]:
    """Yield the images in parts that a model takes; a last part too small begins again with the first.

    Args:
        images: float32 `[N, C, H, W]`, N from 1.
        batch: the model's fixed batch size, or None.
        at_once: images in a part where the size is free.
    """
    size = batch or at_once
    for start in range(0, len(images), size):
        part = images[start : start + size]
        if batch is not None and len(part) < batch:
            part = np.resize(np.concatenate([part, images]), (batch, *images.shape[1:]))
        yield np.ascontiguousarray(part)
