"""Layers of an ONNX file with their costs, and the result row that the time of every node counts for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from compress.core.errors import CompressError, Exit
from compress.graph.operators import onnx_types

LAYERS = onnx_types(layer=True)
"""Operators that multiply by a weight."""

FUSABLE = onnx_types(fusable=True)
"""Operators that a runtime may fuse into the preceding layer; their time counts for that layer."""

POOLS = frozenset(("MaxPool", "AveragePool", "GlobalAveragePool"))

Shape = tuple[int, ...]


@dataclass(frozen=True)
class OnnxLayer:
    """A convolution, linear layer or matrix product with a weight; costs of one inference of a whole batch.

    Attributes:
        name: name of its weight without ``.weight``, such as ``layer1.0.conv1``.
        node: name of its node.
        op: its operator.
        weight: shape of the weight.
        source, result: shapes of its input and output.
        groups: groups of a convolution.
        outputs, inputs: channels or features.
        macs: multiply-accumulates.
        moved: bytes of input, weights (with the bias) and output.
    """

    name: str
    node: str
    op: str
    weight: Shape
    source: Shape
    result: Shape
    groups: int
    outputs: int
    inputs: int
    macs: int
    moved: int

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: MACs per byte moved."""
        return self.macs / max(self.moved, 1)


@dataclass(frozen=True)
class RowKey:
    """Result row that the time of a node counts for.

    Attributes:
        key: name of the row: of a layer, or of other work.
        layer: the layer that the node computes, or None.
        op: the operator.
        scatters: whether the node writes channels back into the dense width.
    """

    key: str
    layer: str | None
    op: str
    scatters: bool = False


@dataclass(frozen=True)
class OnnxGraph:
    """Layers and nodes of an ONNX file at one batch size.

    Attributes:
        path: the file.
        layers: layers by name, in order of execution.
        row_keys: row of every node, by the node's name and by the names of its outputs.
    """

    path: Path
    layers: Mapping[str, OnnxLayer]
    row_keys: Mapping[str, RowKey]
    model: Any = field(repr=False, compare=False)
    shapes: Mapping[str, Shape] = field(repr=False, compare=False)

    @cached_property
    def consumers(self) -> dict[str, list[Any]]:
        """Nodes that read each tensor."""
        readers: dict[str, list[Any]] = {}
        for node in self.model.graph.node:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        return readers

    def followers(self, layer: str) -> Iterator[Any]:
        """Yield the fusable and pooling nodes after a layer, until the path branches or ends."""
        node = next(n for n in self.model.graph.node if n.name == self.layers[layer].node)
        constants = {entry.name for entry in self.model.graph.initializer}
        while len(readers := self.consumers.get(node.output[0], [])) == 1:
            node = readers[0]
            single = [name for name in node.input if name and name not in constants]
            if len(single) != 1 or node.op_type not in FUSABLE | POOLS or len(node.output) != 1:
                return
            yield node


def read_onnx_graph(path: Path, batch: int) -> OnnxGraph:
    """Read an ONNX file at a batch size.

    Raises:
        CompressError: it is not an ONNX file, or shape inference fails (exit MISSING).
    """
    import onnx

    try:
        model = onnx.load(str(path))
        shapes = _shapes(model, batch)
    except Exception as error:  # protobuf and shape inference raise classes without a common base
        raise CompressError(
            f"cannot read the layers of {str(path)!r}: {(str(error).splitlines() or [''])[0]}",
            hint="the file is damaged; export it again",
            code="bad-onnx",
            exit=Exit.MISSING,
        ) from error
    weights = {entry.name: tuple(int(d) for d in entry.dims) for entry in model.graph.initializer}
    layers: dict[str, OnnxLayer] = {}
    row_keys: dict[str, RowKey] = {}
    owner: dict[str, tuple[int, str]] = {}
    scatters = _scatters(model)
    for i, node in enumerate(model.graph.node):
        layer = _layer(node, weights, shapes, layers)
        if layer is not None:
            layers[layer.name] = layer
            last, row_key = (i, layer.name), RowKey(layer.name, layer.name, node.op_type)
        else:
            last = max((owner[name] for name in node.input if name in owner), default=(-1, ""))
            row_key = _other_row(node, last[1], node.name in scatters)
        for name in (node.name, *node.output):
            row_keys[name] = row_key
        for name in node.output:
            owner[name] = last
    return OnnxGraph(path, layers, row_keys, model, shapes)


def _other_row(node: Any, after: str, scatters: bool) -> RowKey:
    """Return the row of a node that is not a layer and follows the layer `after`."""
    op = str(node.op_type)
    if after and op in FUSABLE:
        return RowKey(after, None, op)
    return RowKey(f"{op} after {after}" if after else op, None, op, scatters)


def _scatters(model: Any) -> set[str]:
    """Return the names of the Pad and Gather nodes that `compress.slicing.scatter` is exported as."""
    constants = {entry.name for entry in model.graph.initializer}
    pads = {node.output[0]: node.name for node in model.graph.node if node.op_type == "Pad"}
    gathers = [n for n in model.graph.node if n.op_type == "Gather" and n.input[1] in constants]
    pairs = [(node.name, pads[node.input[0]]) for node in gathers if node.input[0] in pads]
    return {name for names in pairs for name in names}


def _layer(
    node: Any, weights: Mapping[str, Shape], shapes: Mapping[str, Shape], known: Mapping[str, OnnxLayer]
) -> OnnxLayer | None:
    """Return the layer that a node computes, or None."""
    if node.op_type not in LAYERS or node.domain not in ("", "ai.onnx"):
        return None
    name = next((entry for entry in node.input[1:2] if entry in weights), None)
    if name is None:
        return None
    weight, source, result = weights[name], shapes[node.input[0]], shapes[node.output[0]]
    attributes = {entry.name: entry for entry in node.attribute}
    groups = int(attributes["group"].i) if "group" in attributes else 1
    side = source if node.op_type == "ConvTranspose" else result
    if node.op_type in ("Conv", "ConvTranspose"):
        positions, channels = math.prod(side[2:]) * side[0], (source[1], result[1])
    else:
        positions, channels = math.prod(result[:-1]), (source[-1], result[-1])
    bias = math.prod(weights.get(node.input[2], ())) if len(node.input) > 2 else 0
    elements = math.prod(source) + math.prod(weight) + math.prod(result) + bias
    base = name.removesuffix(".weight")
    count = sum(key == base or key.startswith(f"{base} (") for key in known)
    return OnnxLayer(
        name=base if not count else f"{base} ({count + 1})",
        node=node.name,
        op=node.op_type,
        weight=weight,
        source=source,
        result=result,
        groups=groups,
        outputs=channels[1],
        inputs=channels[0],
        macs=positions * math.prod(weight),
        moved=4 * elements,
    )


def _shapes(model: Any, batch: int) -> dict[str, Shape]:
    """Return the shapes of all tensors at a batch size; unknown sizes are 1."""
    import onnx

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in (*fixed.graph.input, *fixed.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        if not first.HasField("dim_value"):
            first.dim_value = batch
    del fixed.graph.value_info[:]
    done = onnx.shape_inference.infer_shapes(fixed, strict_mode=True, data_prop=True).graph
    return {value.name: _sizes(value) for value in (*done.input, *done.value_info, *done.output)}


def _sizes(value: Any) -> Shape:
    dims: Sequence[Any] = value.type.tensor_type.shape.dim
    return tuple(int(d.dim_value) if d.HasField("dim_value") else 1 for d in dims)
