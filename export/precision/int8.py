"""INT8: explicit quantize and dequantize nodes, from static calibration on real images.

Weights are symmetric and per output channel, activations symmetric per tensor (their zero point is 0, which
TensorRT demands), biases stay in float32. The inputs of convolutions, of matrix products with constant
weights and of residual additions are quantized, their outputs are not: a runtime fuses what follows a
layer, up to the next quantize node, into it.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.export.precision.graphs import chunks, fixed_batch

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Quantized:
    """What was quantized: counts of layers, the layers left in float32, images calibrated on."""

    layers: int
    additions: int
    float_layers: tuple[str, ...]
    calibration_images: int
    method: str = "MinMax, symmetric; weights per channel"

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {**asdict(self), "float_layers": list(self.float_layers)}


def to_int8(source: Path, path: Path, images: NDArray[np.float32], *, quantize_ends: bool) -> Quantized:
    """Write the INT8 form of a float32 ONNX file.

    Args:
        source: the file in float32.
        path: where to write.
        images: float32 `[N, C, H, W]`, preprocessed training images, N from 1.
        quantize_ends: the first and the last layer too; they cost accuracy and save little.
    """
    import onnx
    from onnxruntime import quantization

    model = onnx.load(str(source))
    layers, additions = _layers(model), _additions(model)
    ends = () if quantize_ends else tuple(dict.fromkeys((*layers[:1], *layers[-1:])))
    inner = [name for name in layers if name not in ends]
    if inner or additions:
        with _quiet():
            quantization.quantize_static(
                str(source),
                str(path),
                _reader(model, images),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=[*PRODUCTS, "Add"],
                nodes_to_quantize=[*inner, *additions],
                per_channel=True,
                activation_type=quantization.QuantType.QInt8,
                weight_type=quantization.QuantType.QInt8,
                calibrate_method=quantization.CalibrationMethod.MinMax,
                extra_options={
                    "ActivationSymmetric": True,
                    "WeightSymmetric": True,
                    "QuantizeBias": False,
                    "MatMulConstBOnly": True,
                    "OpTypesToExcludeOutputQuantization": [*PRODUCTS, "Add"],
                },
            )
    else:
        onnx.save(model, str(path))
    return Quantized(len(inner), len(additions), ends, len(images))


def _layers(model: Any) -> list[str]:
    """Names of the nodes that multiply by constant weights, in the graph's order."""
    weights = {weight.name for weight in model.graph.initializer}
    return [node.name for node in model.graph.node if node.op_type in PRODUCTS and node.input[1] in weights]


def _additions(model: Any) -> list[str]:
    """Names of the nodes that add two computed tensors."""
    weights = {weight.name for weight in model.graph.initializer}
    adds = (node for node in model.graph.node if node.op_type == "Add")
    return [node.name for node in adds if not weights.intersection(node.input)]


def _reader(model: Any, images: NDArray[np.float32]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
        """Feeds the calibrator."""

        def __init__(self) -> None:
            self._parts = chunks(images, fixed_batch(model))

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            part = next(self._parts, None)
            return None if part is None else {model.graph.input[0].name: part}

    return Reader()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizer's advice and prints off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
