"""A single layer as a network: as a PyTorch module and as an ONNX file.

The network is the layer, its activation, and a mean over the positions. The mean gives `[batch,
out_channels]`, which every back end accepts as the output of a classifier. It reads the output of the layer
in the runtime's blocked layout like a following layer would, so that no conversion is timed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compress.cost import LayerShape
from compress.cost.shapes import Activation

OPSET = 20

MODULES: dict[Activation, type[nn.Module]] = {
    "none": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
    "gelu": nn.GELU,
}


def image_size(shape: LayerShape) -> tuple[int, int, int]:
    """Return the input size of one image: `(channels, height, width)`, or `(height, width, features)`."""
    if shape.kind == "linear":
        return shape.height, shape.width, shape.in_channels
    return shape.in_channels, shape.height, shape.width


class LayerModule(nn.Module):
    """The layer with random weights, scaled to keep the magnitude; input `[N, *image_size]`."""

    def __init__(self, shape: LayerShape, seed: int = 0) -> None:
        super().__init__()
        self.shape = shape
        self.layer = _layer(shape)
        self.activation = MODULES[shape.activation]()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            fan_in = self.layer.weight[0].numel()
            self.layer.weight.normal_(0.0, fan_in**-0.5, generator=generator)
            if self.layer.bias is not None:
                self.layer.bias.normal_(0.0, 0.1, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[N, out_channels]`."""
        positions = (1, 2) if self.shape.kind == "linear" else (2, 3)
        out: Tensor = self.activation(self.layer(x)).mean(positions)
        return out


def _layer(shape: LayerShape) -> nn.Conv2d | nn.Linear:
    if shape.kind == "linear":
        return nn.Linear(shape.in_channels, shape.out_channels, bias=shape.bias)
    return nn.Conv2d(
        shape.in_channels,
        shape.out_channels,
        shape.kernel,
        stride=shape.stride,
        padding=shape.padding,
        dilation=shape.dilation,
        groups=shape.groups,
        bias=shape.bias,
    )


def write_onnx(shape: LayerShape, path: Path, seed: int = 0) -> None:
    """Write the layer as an ONNX file for any batch size, with the weights of `LayerModule`."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    module = LayerModule(shape, seed)
    tensors = {"weight": module.layer.weight.detach().numpy()}
    if module.layer.bias is not None:
        tensors["bias"] = module.layer.bias.detach().numpy()
    nodes = _linear_nodes(shape, tensors) if shape.kind == "linear" else _conv_nodes(shape, tensors)
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", *image_size(shape)])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", shape.out_channels])],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=min(10, onnx.IR_VERSION))
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _conv_nodes(shape: LayerShape, tensors: dict[str, Any]) -> list[Any]:
    from onnx import helper

    conv = helper.make_node(
        "Conv",
        ["input", *tensors],
        ["layer_output"],
        kernel_shape=shape.kernel,
        strides=shape.stride,
        pads=[*shape.padding, *shape.padding],
        dilations=shape.dilation,
        group=shape.groups,
    )
    activation, last = _activation_nodes(shape)
    return [
        conv,
        *activation,
        helper.make_node("GlobalAveragePool", [last], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["output"], axis=1),
    ]


def _linear_nodes(shape: LayerShape, tensors: dict[str, Any]) -> list[Any]:
    """Return a Gemm for one position, as exporters write it; a MatMul and a mean for several."""
    from onnx import helper

    activation, last = _activation_nodes(shape)
    if shape.height * shape.width == 1:
        out = helper.make_node("Identity", [last], ["output"])
        flat = helper.make_node("Flatten", ["input"], ["flat"], axis=1)
        gemm = helper.make_node("Gemm", ["flat", *tensors], ["layer_output"], transB=1)
        return [flat, gemm, *activation, out]
    tensors["weight"] = np.ascontiguousarray(tensors["weight"].T)
    product = "product" if "bias" in tensors else "layer_output"
    nodes = [helper.make_node("MatMul", ["input", "weight"], [product])]
    if "bias" in tensors:
        nodes.append(helper.make_node("Add", ["product", "bias"], ["layer_output"]))
    tensors["positions"] = np.array([1, 2], dtype=np.int64)
    mean = helper.make_node("ReduceMean", [last, "positions"], ["output"], keepdims=0)
    return [*nodes, *activation, mean]


def _activation_nodes(shape: LayerShape) -> tuple[list[Any], str]:
    """Return the nodes after ``layer_output`` as exporters write them, and the name of the last tensor."""
    from onnx import helper

    operator = {"relu": "Relu", "hardswish": "HardSwish", "gelu": "Gelu"}.get(shape.activation)
    if operator is not None:
        return [helper.make_node(operator, ["layer_output"], ["active"])], "active"
    if shape.activation == "silu":
        gate = helper.make_node("Sigmoid", ["layer_output"], ["gate"])
        return [gate, helper.make_node("Mul", ["layer_output", "gate"], ["active"])], "active"
    if shape.activation == "relu6":
        ends = [
            helper.make_node(
                "Constant",
                [],
                [name],
                value=helper.make_tensor(name, 1, [], [value]),  # 1: float
            )
            for name, value in (("low", 0.0), ("high", 6.0))
        ]
        return [*ends, helper.make_node("Clip", ["layer_output", "low", "high"], ["active"])], "active"
    return [], "layer_output"
