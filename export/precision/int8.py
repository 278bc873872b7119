"""INT8: explicit quantize and dequantize nodes, from static calibration on real images.

Weights are quantized symmetrically per output channel, activations symmetrically per tensor (with zero point
0, as TensorRT requires); biases stay float32. The inputs of convolutions, of matrix products with constant
weights and of residual additions are quantized. Their outputs are not, so that a runtime can fuse a layer
with the operators up to the next quantize node.
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

from compress.export.precision.onnx_graph import fixed_batch, split_batches

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class QuantizationReport:
    """Numbers of quantized layers and additions, the layers left in float32, and the calibration images."""

    layers: int
    additions: int
    float_layers: tuple[str, ...]
    calibration_images: int
    method: str = "MinMax, symmetric; weights per channel"

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {**asdict(self), "float_layers": list(self.float_layers)}


def to_int8(
    source: Path, path: Path, images: NDArray[np.float32], *, quantize_ends: bool
) -> QuantizationReport:
    """Write a float32 ONNX file in INT8.

    Args:
        source: the file in float32.
        path: the file to write.
        images: float32 `[N, C, H, W]`, preprocessed training images, N from 1.
        quantize_ends: also quantize the first and the last layer, which costs accuracy and saves little.
    """
    import onnx
    from onnxruntime import quantization

    model = onnx.load(str(source))
    layers, additions = _weighted_nodes(model), _addition_nodes(model)
    ends = () if quantize_ends else tuple(dict.fromkeys((*layers[:1], *layers[-1:])))
    inner = [name for name in layers if name not in ends]
    if inner or additions:
        with _quiet():
            quantization.quantize_static(
                str(source),
                str(path),
                _calibration_reader(model, images),
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
    return QuantizationReport(len(inner), len(additions), ends, len(images))


def _weighted_nodes(model: Any) -> list[str]:
    """Return the names of the nodes that multiply by constant weights, in the graph's order."""
    weights = {weight.name for weight in model.graph.initializer}
    return [node.name for node in model.graph.node if node.op_type in PRODUCTS and node.input[1] in weights]


def _addition_nodes(model: Any) -> list[str]:
    """Return the names of the nodes that add two computed tensors."""
    weights = {weight.name for weight in model.graph.initializer}
    adds = (node for node in model.graph.node if node.op_type == "Add")
    return [node.name for node in adds if not weights.intersection(node.input)]


def _calibration_reader(model: Any, images: NDArray[np.float32]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
        """Feeds the images to the calibrator."""

        def __init__(self) -> None:
            self._batches = split_batches(images, fixed_batch(model))

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            batch = next(self._batches, None)
            return None if batch is None else {model.graph.input[0].name: batch}

    return Reader()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the quantizer's log lines and prints."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
