"""Which layer loses most when an ONNX file is reduced: its outputs beside those of the float32 file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.precision.emulate import emulated
from export.precision.graphs import chunks, fixed_batch, float_outputs, load, open_model, with_outputs

IMAGES = 8
"""Images the layers' outputs are compared on; every output is held in memory at once."""


@dataclass(frozen=True)
class LayerLoss:
    """How far a layer's output is from what it is in float32.

    Attributes:
        node: its name in the float32 file. operator: its type.
        error: norm of the difference over the norm of the output in float32; None if not finite.
        added: what of it was not yet in the layer's inputs; None if not finite.
    """

    node: str
    operator: str
    error: float | None
    added: float | None

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def layer_losses(full: Path, reduced: Path, images: NDArray[np.float32]) -> list[LayerLoss]:
    """Return the layers by how much error they add, the worst first.

    A layer whose output is not finite, while its inputs are, comes before all others.

    Args:
        full: an ONNX file in float32.
        reduced: the same network in FP16, BF16 or INT8.
        images: float32 `[N, C, H, W]`; the first `IMAGES` are used.
    """
    model, other = load(full), emulated(load(reduced))
    names = float_outputs(model)
    same = {name: _counterpart(name, other) for name in names}
    pairs = {name: twin for name, twin in same.items() if twin is not None}
    part = next(chunks(images[:IMAGES], fixed_batch(model)))
    wanted = _values(model, list(pairs), part, optimise=True)
    got = _values(other, list(pairs.values()), part, optimise=False)
    errors = {name: _error(wanted[name], got[twin]) for name, twin in pairs.items()}
    losses = []
    for node in model.graph.node:
        if node.output[0] in errors:
            error = errors[node.output[0]]
            before = max((errors.get(name, 0.0) for name in node.input), default=0.0)
            added = float("-inf") if np.isinf(before) else error - before
            losses.append((added, node, error))
    losses.sort(key=lambda loss: -loss[0])
    return [
        LayerLoss(node.name, node.op_type, _finite(error), _finite(added)) for added, node, error in losses
    ]


def _counterpart(name: str, other: Any) -> str | None:
    """The tensor of the reduced model that stands for `name`; one kept in float32 has another name."""
    known = {tensor for node in other.graph.node for tensor in node.output}
    return next((twin for twin in (name, f"{name}_cast_to_fp16") if twin in known), None)


def _values(model: Any, names: list[str], part: NDArray[np.float32], *, optimise: bool) -> dict[str, Any]:
    session = open_model(with_outputs(model, names), optimise=optimise)
    unique = list(dict.fromkeys(names))
    return dict(zip(unique, session.run(unique, {model.graph.input[0].name: part}), strict=True))


def _error(wanted: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    difference = float(np.linalg.norm(wanted.astype(np.float64).ravel() - got.ravel()))
    size = max(float(np.linalg.norm(wanted.astype(np.float64).ravel())), float(np.finfo(np.float32).tiny))
    return difference / size if np.isfinite(difference) else float("inf")


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
