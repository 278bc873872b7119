"""A minimal ONNX classifier in an old opset, which every recent runtime reads."""

from __future__ import annotations

import numpy as np

SHAPE = (1, 1, 8, 8)
CLASSES = 10


def classifier() -> bytes:
    """Return an ONNX model whose ten outputs are the sum of the pixels.

    Input float32 `[batch, 1, 8, 8]`, output float32 `[batch, 10]`.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((64, CLASSES), np.float32), "weight")
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["input"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
        ],
        "classifier",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", *SHAPE[1:]])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
