"""Which layer loses most when an ONNX file is reduced: its outputs beside those of the float32 file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.export.precision.emulate import emulated
from compress.export.precision.graphs import (
    chunks,
    fixed_batch,
    float_outputs,
    load,
    open_model,
    with_outputs,
)

IMAGES = 4
"""Images the layers' outputs are compared on; every output is held in memory at once."""


OWN = "/own"
"""Ends the name of what a layer computes from exact inputs."""


@dataclass(frozen=True)
class LayerLoss:
    """How far a layer's output is from what it is in float32.

    Attributes:
        node: its name in the float32 file. operator: its type.
        alone: norm of the difference over the norm of the output in float32, where only this layer is reduced
            and its inputs are exact; None if not finite.
        error: the same in the reduced network, with what the layers before it lost; None if not finite.
    """

    node: str
    operator: str
    alone: float | None
    error: float | None

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def layer_losses(full: Path, reduced: Path, images: NDArray[np.float32]) -> list[LayerLoss]:
    """Return the layers by how much each loses by itself, the worst first.

    Args:
        full: an ONNX file in float32.
        reduced: the same network in FP16, BF16 or INT8.
        images: float32 `[N, C, H, W]`; the first `IMAGES` are used.
    """
    model, other = load(full), emulated(load(reduced))
    same = {name: _counterpart(name, other) for name in float_outputs(model)}
    twins = {name: twin for name, twin in same.items() if twin is not None}
    part = next(chunks(images[:IMAGES], fixed_batch(model)))
    feed = {model.graph.input[0].name: part}
    wanted = _values(with_outputs(model, list(twins)), list(twins), feed, optimise=True)
    got = _values(with_outputs(other, list(twins.values())), list(twins.values()), feed, optimise=False)
    apart, own = _taken_apart(other, list(twins.values()))
    exact = {twin: wanted[name] for name, twin in twins.items() if twin in _inputs(apart)}
    alone = _values(apart, own, feed | exact, optimise=False)
    losses = []
    for node in model.graph.node:
        name = node.output[0]
        if name in twins:
            value = wanted[name]
            mine, all_ = _error(value, alone[f"{twins[name]}{OWN}"]), _error(value, got[twins[name]])
            losses.append((mine, LayerLoss(node.name, node.op_type, _finite(mine), _finite(all_))))
    losses.sort(key=lambda loss: -loss[0])
    return [loss for _, loss in losses]


def _taken_apart(model: Any, names: list[str]) -> tuple[Any, list[str]]:
    """A model that reads the tensors `names` from outside, and answers with its own of each."""
    import onnx

    apart = onnx.ModelProto()
    apart.CopyFrom(model)
    inner = set(names)
    for node in apart.graph.node:
        for i, name in enumerate(node.output):
            if name in inner:
                node.output[i] = f"{name}{OWN}"
    read = {name for node in apart.graph.node for name in node.input}
    apart.graph.input.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in names
        if name in read
    )
    del apart.graph.output[:]
    own = [f"{name}{OWN}" for name in names]
    return with_outputs(apart, own), own


def _inputs(model: Any) -> set[str]:
    return {value.name for value in model.graph.input}


def _counterpart(name: str, other: Any) -> str | None:
    """The tensor of the reduced model that stands for `name`; one kept in float32 has another name."""
    known = {tensor for node in other.graph.node for tensor in node.output}
    return next((twin for twin in (name, f"{name}_cast_to_fp16") if twin in known), None)


def _values(model: Any, names: list[str], feed: dict[str, Any], *, optimise: bool) -> dict[str, Any]:
    session = open_model(model, optimise=optimise)
    return dict(zip(names, session.run(names, feed), strict=True))


def _error(wanted: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    difference = float(np.linalg.norm(wanted.astype(np.float64).ravel() - got.ravel()))
    size = max(float(np.linalg.norm(wanted.astype(np.float64).ravel())), float(np.finfo(np.float32).tiny))
    return difference / size if np.isfinite(difference) else float("inf")


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
