"""A small ONNX graph as a PyTorch module, operator by operator, for timing single layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.core.errors import CompressError, Exit

Attributes = dict[str, Any]


class OnnxModule(nn.Module):
    """Compute an ONNX file of convolutions, matrix products, pools and activations.

    Attributes:
        size: shape of one image of the input.

    Raises:
        CompressError: the file contains any other operator (exit BUILD).
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        import onnx
        from onnx import numpy_helper

        graph = onnx.load(str(path)).graph
        self.size = tuple(d.dim_value for d in graph.input[0].type.tensor_type.shape.dim)[1:]
        self._source, self._result = graph.input[0].name, graph.output[0].name
        self._keys: dict[str, str] = {}
        for i, entry in enumerate(graph.initializer):
            self._keys[entry.name] = f"constant{i}"
            self.register_buffer(f"constant{i}", torch.from_numpy(numpy_helper.to_array(entry).copy()))
        self._nodes = [_parsed(node) for node in graph.node]
        unknown = next((op for op, *_ in self._nodes if op not in _OPERATORS), None)
        if unknown is not None:
            raise CompressError(
                f"the operator {unknown!r} of a benchmark file is not implemented in PyTorch",
                hint="this is a bug in compress; report it",
                code="no-operator",
                exit=Exit.BUILD,
            )

    def forward(self, images: Tensor) -> Tensor:
        """Return the output for `[N, ...]`."""
        values = {self._source: images, **{name: getattr(self, key) for name, key in self._keys.items()}}
        for op, attributes, inputs, output in self._nodes:
            values[output] = _OPERATORS[op](attributes, *(values[name] for name in inputs if name))
        result: Tensor = values[self._result]
        return result


def _parsed(node: Any) -> tuple[str, Attributes, list[str], str]:
    import onnx

    attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    return node.op_type, attributes, list(node.input), node.output[0]


def _padded(x: Tensor, attributes: Attributes, value: float = 0.0) -> Tensor:
    pads = attributes.get("pads", [0] * 4)
    half = len(pads) // 2
    flat = [size for d in reversed(range(half)) for size in (pads[d], pads[half + d])]
    return F.pad(x, flat, value=value) if any(pads) else x


def _conv(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    rank = weight.dim() - 2
    pads = attributes.get("pads", [0] * 2 * rank)
    even = pads[:rank] == pads[rank:]
    return torch.conv2d(
        x if even else _padded(x, attributes),
        weight,
        bias,
        attributes.get("strides", [1] * rank),
        pads[:rank] if even else [0] * rank,
        attributes.get("dilations", [1] * rank),
        attributes.get("group", 1),
    )


def _gemm(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.linear(x, weight if attributes.get("transB") else weight.t(), bias)


def _max_pool(attributes: Attributes, x: Tensor) -> Tensor:
    size = attributes["kernel_shape"]
    return F.max_pool2d(_padded(x, attributes, float("-inf")), size, attributes.get("strides", size))


def _average_pool(attributes: Attributes, x: Tensor) -> Tensor:
    size = attributes["kernel_shape"]
    return F.avg_pool2d(_padded(x, attributes), size, attributes.get("strides", size))


def _clip(attributes: Attributes, x: Tensor, *ends: Tensor) -> Tensor:
    return torch.clamp(x, *ends)


_OPERATORS: dict[str, Callable[..., Tensor]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": lambda attributes, x, weight: x @ weight,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": lambda attributes, x: x.mean((2, 3), keepdim=True),
    "Softmax": lambda attributes, x: torch.softmax(x, attributes.get("axis", -1)),
    "Flatten": lambda attributes, x: torch.flatten(x, 1),
    "Clip": _clip,
    "Relu": lambda attributes, x: torch.relu(x),
    "Sigmoid": lambda attributes, x: torch.sigmoid(x),
    "HardSigmoid": lambda attributes, x: F.hardsigmoid(x),
    "HardSwish": lambda attributes, x: F.hardswish(x),
    "Identity": lambda attributes, x: x,
}
