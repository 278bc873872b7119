"""How far each layer of a reduced ONNX file deviates from the float32 file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.export.precision.emulate import emulated_model
from compress.export.precision.onnx_graph import (
    fixed_batch,
    float_outputs,
    load_onnx,
    open_model,
    split_batches,
    with_outputs,
)

IMAGES = 4
"""Images to compare on; the outputs of all layers are in memory at the same time."""

ISOLATED = "/own"
"""Suffix of the name of a layer's output that is computed from exact inputs."""


@dataclass(frozen=True)
class LayerDeviation:
    """Difference of a layer's output from its output in float32.

    Attributes:
        node: its name in the float32 file.
        operator: its type.
        alone: norm of the difference divided by the norm of the float32 output, if only this layer is reduced
            and its inputs are exact; None if not finite.
        error: the same with all layers before it reduced too; None if not finite.
    """

    node: str
    operator: str
    alone: float | None
    error: float | None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)


def layer_deviations(full: Path, reduced: Path, images: NDArray[np.float32]) -> list[LayerDeviation]:
    """Return the deviations of all layers, sorted by `LayerDeviation.alone`, the largest first.

    Args:
        full: an ONNX file in float32.
        reduced: the same network in FP16, BF16 or INT8.
        images: float32 `[N, C, H, W]`; the first `IMAGES` are used.
    """
    model, reduced_model = load_onnx(full), emulated_model(load_onnx(reduced))
    names = {name: _counterpart(name, reduced_model) for name in float_outputs(model)}
    counterparts = {name: other for name, other in names.items() if other is not None}
    outputs, reduced_outputs = list(counterparts), list(counterparts.values())
    batch = next(split_batches(images[:IMAGES], fixed_batch(model)))
    feed = {model.graph.input[0].name: batch}
    exact = _run(with_outputs(model, outputs), outputs, feed, optimize=True)
    cumulative = _run(with_outputs(reduced_model, reduced_outputs), reduced_outputs, feed, optimize=False)
    isolated_model, isolated_outputs = _with_isolated_layers(reduced_model, reduced_outputs)
    read = {value.name for value in isolated_model.graph.input}
    exact_inputs = {other: exact[name] for name, other in counterparts.items() if other in read}
    isolated = _run(isolated_model, isolated_outputs, feed | exact_inputs, optimize=False)
    deviations = []
    for node in model.graph.node:
        name = node.output[0]
        if name in counterparts:
            other = counterparts[name]
            alone = _relative_error(exact[name], isolated[f"{other}{ISOLATED}"])
            error = _relative_error(exact[name], cumulative[other])
            deviation = LayerDeviation(node.name, node.op_type, _finite(alone), _finite(error))
            deviations.append((alone, deviation))
    deviations.sort(key=lambda pair: -pair[0])
    return [deviation for _, deviation in deviations]


def _with_isolated_layers(model: Any, names: list[str]) -> tuple[Any, list[str]]:
    """Return a model in which every layer reads exact inputs, and the names of its outputs.

    The tensors `names` become inputs of the model; the layers write to outputs of another name.
    """
    import onnx

    isolated = onnx.ModelProto()
    isolated.CopyFrom(model)
    inner = set(names)
    for node in isolated.graph.node:
        for i, name in enumerate(node.output):
            if name in inner:
                node.output[i] = f"{name}{ISOLATED}"
    read = {name for node in isolated.graph.node for name in node.input}
    isolated.graph.input.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in names
        if name in read
    )
    del isolated.graph.output[:]
    outputs = [f"{name}{ISOLATED}" for name in names]
    return with_outputs(isolated, outputs), outputs


def _counterpart(name: str, reduced: Any) -> str | None:
    """Return the tensor of the reduced model for `name`; layers kept in float32 write to another name."""
    known = {tensor for node in reduced.graph.node for tensor in node.output}
    return next((other for other in (name, f"{name}_cast_to_fp16") if other in known), None)


def _run(model: Any, names: list[str], feed: dict[str, Any], *, optimize: bool) -> dict[str, Any]:
    session = open_model(model, optimize=optimize)
    return dict(zip(names, session.run(names, feed), strict=True))


def _relative_error(expected: NDArray[np.float32], actual: NDArray[np.float32]) -> float:
    difference = float(np.linalg.norm(expected.astype(np.float64).ravel() - actual.ravel()))
    size = max(float(np.linalg.norm(expected.astype(np.float64).ravel())), float(np.finfo(np.float32).tiny))
    return difference / size if np.isfinite(difference) else float("inf")


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
