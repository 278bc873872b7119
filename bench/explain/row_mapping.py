"""Map the nodes that a runtime executes to the rows of the result: layers, other work, format conversions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.bench.backends import Profiled, RuntimeNode
from compress.bench.explain.onnx_graph import OnnxGraph, RowKey
from compress.bench.explain.record import Kind

CONVERSIONS = "format conversions"
LAYER_OPERATORS = ("conv", "gemm", "matmul", "linear", "addmm", "mm", "fullyconnected", "layer")
"""Parts of the names that runtimes give to operators with a weight."""


@dataclass(frozen=True)
class ProfiledRow:
    """Profiled time of a row in one network.

    Attributes:
        key: name of a layer or of other work.
        kind: kind of the row.
        nodes: the nodes of the runtime that are summed.
        times_ns: nanoseconds of one inference, `[samples]`.
    """

    key: str
    kind: Kind
    nodes: tuple[RuntimeNode, ...]
    times_ns: NDArray[np.float64]

    @property
    def kernels(self) -> tuple[str, ...]:
        """Distinct kernels in order of execution."""
        return tuple(dict.fromkeys(node.kernel for node in self.nodes))


def group_nodes(graph: OnnxGraph, profiled: Profiled) -> dict[str, ProfiledRow]:
    """Group all nodes of a profile into rows.

    A node belongs to the row of the ONNX node that it was made from. A node with a weight and no known origin
    is assigned to the next unassigned layer whose weight has the same shape.
    """
    indices: dict[str, list[int]] = {}
    kinds: dict[str, Kind] = {}
    for i, (key, kind) in enumerate(_assign_rows(graph, profiled.nodes)):
        indices.setdefault(key, []).append(i)
        kinds.setdefault(key, kind)
    return {
        key: ProfiledRow(
            key, kinds[key], tuple(profiled.nodes[i] for i in own), profiled.times_ns[:, own].sum(1)
        )
        for key, own in indices.items()
    }


def layers_without_nodes(graph: OnnxGraph, rows: dict[str, ProfiledRow]) -> list[str]:
    """Return the layers that no node of a profile was assigned to."""
    return [name for name in graph.layers if name not in rows]


def _assign_rows(graph: OnnxGraph, nodes: Sequence[RuntimeNode]) -> list[tuple[str, Kind]]:
    by_origin = [None if node.converts else _row_of_origin(graph, node) for node in nodes]
    assigned = {row.layer for row in by_origin if row is not None and row.layer is not None}
    unassigned = [layer for name, layer in graph.layers.items() if name not in assigned]
    out, last = list[tuple[str, Kind]](), ""
    for node, row in zip(nodes, by_origin, strict=True):
        if node.converts:
            out.append((CONVERSIONS, "conversion"))
            continue
        if row is None and _has_weight(node):
            match = next((layer for layer in unassigned if node.weight in (None, layer.weight)), None)
            if match is not None:
                unassigned.remove(match)
                row = RowKey(match.name, match.name, node.op)
        if row is None:
            scatters = node.op == "scatter"
            row = RowKey(f"{node.op} after {last}" if last else node.op, None, node.op, scatters)
        last = row.layer or last
        is_layer = row.key in graph.layers
        out.append((row.key, "layer" if is_layer else "scatter" if row.scatters else "other"))
    return out


def _row_of_origin(graph: OnnxGraph, node: RuntimeNode) -> RowKey | None:
    """Return the row of the ONNX nodes that a runtime node was made from; layers take precedence."""
    rows = [graph.row_keys[name] for name in node.origins if name in graph.row_keys]
    rows += [RowKey(name, name, node.op) for name in node.origins if name in graph.layers]
    layers = [row for row in rows if row.layer is not None]
    fused = [row for row in rows if row.key in graph.layers]
    return next(iter((*layers, *fused, *rows)), None)


def _has_weight(node: RuntimeNode) -> bool:
    return any(part in node.op.lower() for part in LAYER_OPERATORS)
