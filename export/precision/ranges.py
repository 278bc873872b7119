"""The largest value of every tensor of a float32 ONNX model, and the nodes that exceed FP16's range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from compress.export.precision.onnx_graph import (
    fixed_batch,
    float_outputs,
    open_model,
    split_batches,
    with_outputs,
)

LARGEST = 65504.0
"""Largest finite FP16 number."""

SMALLEST = 2.0**-14
"""Smallest normal FP16 number; a tensor whose largest value is smaller loses precision."""

HEADROOM = 2.0
"""Assumed factor by which an activation may be larger on other images than on those of the calibration."""


@dataclass(frozen=True)
class KeptNode:
    """A node that stays in float32.

    Attributes:
        node: its name.
        operator: its type.
        reason: ``overflow`` or ``underflow`` of a tensor that it reads or writes; ``unsupported`` if the
            operator does not support the type.
        tensor: the tensor; None for ``unsupported``.
        largest: its largest absolute value.
    """

    node: str
    operator: str
    reason: Literal["overflow", "underflow", "unsupported"]
    tensor: str | None = None
    largest: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)


def largest_values(model: Any, images: NDArray[np.float32]) -> dict[str, float]:
    """Return the largest absolute value of every float32 tensor, activations on `images` and weights.

    Args:
        model: an ONNX model in float32, with the types of its inner tensors.
        images: float32 `[N, C, H, W]`.
    """
    import onnx

    names = float_outputs(model)
    probe = with_outputs(model, [])
    del probe.graph.output[:]
    for name in names:
        size, largest = f"{name}/size", f"{name}/largest"
        probe.graph.node.append(onnx.helper.make_node("Abs", [name], [size]))
        probe.graph.node.append(onnx.helper.make_node("ReduceMax", [size], [largest], keepdims=0))
    probe = with_outputs(probe, [f"{name}/largest" for name in names])
    session, entry = open_model(probe), model.graph.input[0].name
    maxima = np.zeros(len(names))
    for batch in split_batches(images, fixed_batch(model)):
        values = np.array([float(value) for value in session.run(None, {entry: batch})])
        maxima = np.fmax(maxima, np.where(np.isnan(values), np.inf, values))
    result = dict(zip(names, map(float, maxima), strict=True))
    result[entry] = float(np.abs(images).max())
    for weight in model.graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT:
            value = np.abs(onnx.numpy_helper.to_array(weight))
            result[weight.name] = float(value.max()) if value.size else 0.0
    return result


def out_of_range_nodes(model: Any, largest: Mapping[str, float]) -> list[KeptNode]:
    """Return the nodes that read or write a tensor beyond the range of FP16, in the graph's order."""
    weights = {weight.name for weight in model.graph.initializer}
    kept = []
    for node in model.graph.node:
        for tensor in (*node.input, *node.output):
            value = largest.get(tensor, 0.0)
            limit = LARGEST if tensor in weights else LARGEST / HEADROOM
            if value > limit:
                kept.append(KeptNode(node.name, node.op_type, "overflow", tensor, value))
                break
            if 0.0 < value < SMALLEST:
                kept.append(KeptNode(node.name, node.op_type, "underflow", tensor, value))
                break
    return kept
