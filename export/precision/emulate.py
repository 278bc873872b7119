"""A 16-bit ONNX model computed as a GPU does it, on a CPU without that arithmetic.

ONNX Runtime on the CPU turns a run of FP16 layers into float32 and so hides overflow, and has no BF16
convolution at all. Here each operator computes in float32 (as tensor cores sum) and its result is rounded to
the 16-bit type; an FP16 value past 65504 becomes infinite, as it does in a FP16 engine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.export.precision.graphs import chunks, fixed_batch, load, open_model, types_of

RUNNER = "ONNX Runtime, float32 arithmetic rounded to {precision} after each operator"


def emulated(model: Any) -> Any:
    """Return a float32 model that rounds where `model` computes in FP16 or BF16.

    Args:
        model: an ONNX model with the types of its inner tensors; not changed.
    """
    import onnx
    from onnx import TensorProto, numpy_helper

    types, half = types_of(model), (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for weight in copy.graph.initializer:
        if weight.data_type in half:
            weight.CopyFrom(_widened(weight))
    nodes: list[Any] = []
    for node in model.graph.node:
        new = onnx.NodeProto()
        new.CopyFrom(node)
        for attribute in new.attribute:
            if attribute.t.data_type in half:
                attribute.t.CopyFrom(_widened(attribute.t))
            elif attribute.name in ("to", "dtype") and attribute.i in half:
                attribute.i = TensorProto.FLOAT
        nodes.append(new)
        for i, name in enumerate(node.output):
            if types.get(name) in half:
                new.output[i] = f"{name}/exact"
                nodes += _rounding(name, types[name])
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    assert all(numpy_helper.to_array(w).dtype != np.float16 for w in copy.graph.initializer)
    return copy


def _widened(tensor: Any) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)


def _rounding(name: str, kind: int) -> list[Any]:
    from onnx import TensorProto, helper

    return [
        helper.make_node("Cast", [f"{name}/exact"], [f"{name}/rounded"], to=kind),
        helper.make_node("Cast", [f"{name}/rounded"], [name], to=TensorProto.FLOAT),
    ]


class EmulatedClassifier:
    """A 16-bit ONNX classifier, computed as `emulated` says."""

    def __init__(self, path: Path) -> None:
        model = load(path)
        self.batch = fixed_batch(model)
        self._entry, self._exit = model.graph.input[0].name, model.graph.output[0].name
        self._session = open_model(emulated(model), optimise=False)

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 `[N, classes]` for float32 `[N, C, H, W]`."""
        parts = [
            self._session.run([self._exit], {self._entry: part})[0]
            for part in chunks(images, self.batch, at_once=64)
        ]
        result: NDArray[np.float32] = np.concatenate(parts)[: len(images)]
        return result
