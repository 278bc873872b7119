"""Emulate FP16 and BF16 arithmetic of a GPU on a CPU.

ONNX Runtime on the CPU computes consecutive FP16 layers in float32, which hides overflow, and it has no BF16
convolution. Here each operator computes in float32 (tensor cores accumulate in float32 too) and its result is
rounded to the 16-bit type; an FP16 value beyond 65504 becomes infinite, as in an FP16 engine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.export.precision.onnx_graph import (
    element_types,
    fixed_batch,
    load_onnx,
    open_model,
    split_batches,
)

RUNNER = "ONNX Runtime, float32 arithmetic rounded to {precision} after each operator"


def emulated_model(model: Any) -> Any:
    """Return a float32 model that rounds every value that `model` computes in FP16 or BF16.

    Args:
        model: an ONNX model with the types of its inner tensors.
    """
    import onnx
    from onnx import TensorProto, numpy_helper

    types, half = element_types(model), (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for weight in copy.graph.initializer:
        if weight.data_type in half:
            weight.CopyFrom(_to_float32(weight))
    nodes: list[Any] = []
    for node in model.graph.node:
        new = onnx.NodeProto()
        new.CopyFrom(node)
        for attribute in new.attribute:
            if attribute.t.data_type in half:
                attribute.t.CopyFrom(_to_float32(attribute.t))
            elif attribute.name in ("to", "dtype") and attribute.i in half:
                attribute.i = TensorProto.FLOAT
        nodes.append(new)
        for i, name in enumerate(node.output):
            if types.get(name) in half:
                new.output[i] = f"{name}/exact"
                nodes += _rounding_nodes(name, types[name])
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    assert all(numpy_helper.to_array(w).dtype != np.float16 for w in copy.graph.initializer)
    return copy


def _to_float32(tensor: Any) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)


def _rounding_nodes(name: str, kind: int) -> list[Any]:
    from onnx import TensorProto, helper

    return [
        helper.make_node("Cast", [f"{name}/exact"], [f"{name}/rounded"], to=kind),
        helper.make_node("Cast", [f"{name}/rounded"], [name], to=TensorProto.FLOAT),
    ]


class EmulatedClassifier:
    """A 16-bit ONNX classifier, emulated on the CPU in ONNX Runtime."""

    def __init__(self, path: Path) -> None:
        model = load_onnx(path)
        self.batch = fixed_batch(model)
        self._entry, self._exit = model.graph.input[0].name, model.graph.output[0].name
        self._session = open_model(emulated_model(model), optimize=False)

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 `[N, classes]` for float32 `[N, C, H, W]`."""
        parts = [
            self._session.run([self._exit], {self._entry: part})[0]
            for part in split_batches(images, self.batch, free_batch=64)
        ]
        result: NDArray[np.float32] = np.concatenate(parts)[: len(images)]
        return result
