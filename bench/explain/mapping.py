"""From the nodes a runtime executes to the rows of the account: layers, other work, conversions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from compress.bench.explain.graph import Graph, Place
from compress.bench.explain.profilers import Profiled, RuntimeNode

Kind = Literal["layer", "other", "conversion", "scatter"]

CONVERSIONS = "format conversions"
MULTIPLY = ("conv", "gemm", "matmul", "linear", "addmm", "mm", "fullyconnected", "layer")
"""Parts of the names that runtimes give to what multiplies by a weight."""


@dataclass(frozen=True)
class Row:
    """What one side of a row of the account took.

    Attributes:
        key: layer or name of other work. kind: what it is.
        nodes: that were summed, with the operators and kernels they had.
        times_ns: of one inference, `[samples]`.
    """

    key: str
    kind: Kind
    nodes: tuple[RuntimeNode, ...]
    times_ns: NDArray[np.float64]

    @property
    def kernels(self) -> tuple[str, ...]:
        """Kernels in the order in which they run, each once."""
        return tuple(dict.fromkeys(node.kernel for node in self.nodes))


def rows_of(graph: Graph, profiled: Profiled) -> dict[str, Row]:
    """Return the rows of a profile; together they are all of its nodes.

    A node is booked where the file's node of that name belongs. What multiplies by a weight and has no known
    name is the next layer not seen yet whose weight has that shape.
    """
    places = _placed(graph, profiled.nodes)
    found: dict[str, list[int]] = {}
    kinds: dict[str, Kind] = {}
    for i, (key, kind) in enumerate(places):
        found.setdefault(key, []).append(i)
        kinds.setdefault(key, kind)
    return {
        key: Row(key, kinds[key], tuple(profiled.nodes[i] for i in which), profiled.times_ns[:, which].sum(1))
        for key, which in found.items()
    }


def unseen(graph: Graph, rows: dict[str, Row]) -> list[str]:
    """Return the layers that no node of a profile was booked on."""
    return [name for name in graph.layers if name not in rows]


def _placed(graph: Graph, nodes: Sequence[RuntimeNode]) -> list[tuple[str, Kind]]:
    known = [None if node.converts else _known(graph, node) for node in nodes]
    taken = {place.layer for place in known if place is not None and place.layer is not None}
    left = [layer for name, layer in graph.layers.items() if name not in taken]
    out, last = list[tuple[str, Kind]](), ""
    for node, place in zip(nodes, known, strict=True):
        if node.converts:
            out.append((CONVERSIONS, "conversion"))
            continue
        if place is None and _multiplies(node):
            match = next((layer for layer in left if node.weight in (None, layer.weight)), None)
            if match is not None:
                left.remove(match)
                place = Place(match.name, match.name, node.op)
        if place is None:
            scatters = node.op == "scatter"
            place = Place(f"{node.op} after {last}" if last else node.op, None, node.op, scatters)
        last = place.layer or last
        is_layer = place.key in graph.layers
        out.append((place.key, "layer" if is_layer else "scatter" if place.scatters else "other"))
    return out


def _known(graph: Graph, node: RuntimeNode) -> Place | None:
    """Where the file's nodes of that name belong: a layer among them first."""
    places = [graph.places[name] for name in node.origins if name in graph.places]
    places += [Place(name, name, node.op) for name in node.origins if name in graph.layers]
    layers = [place for place in places if place.layer is not None]
    booked = [place for place in places if place.key in graph.layers]
    return next(iter((*layers, *booked, *places)), None)


def _multiplies(node: RuntimeNode) -> bool:
    return any(part in node.op.lower() for part in MULTIPLY)
