"""From labels to channels: labels that are cut together are one channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from compress.graph.dense_pass import DensePass
from compress.graph.labels import NONE, Ints
from compress.graph.rule_context import CountTie, Labels


@dataclass(frozen=True)
class Channels:
    """The channels of a network.

    Attributes:
        of_label: channel of each label, `[labels]`. Channels of a group norm's group, which stay or go
            together, count as one.
        count: number of channels.
        removable: channels that may be dropped, bool `[channels]`.
        reasons: for channels that may not, the first reason.
        ties: rows of channels of which equally many positions must stay.
    """

    of_label: Ints
    count: int
    removable: NDArray[np.bool_]
    reasons: dict[int, str]
    ties: tuple[CountTie, ...]

    def at(self, labels: Labels) -> Ints:
        """The channels of labels; NONE stays NONE."""
        out = self.of_label[labels]
        out[labels == NONE] = NONE
        return out


def find_channels(dense: DensePass) -> Channels:
    """Join what is tied, protect what must stay, and turn views into count ties."""
    root, count = _connect(dense, [*dense.edges, *_blocks(dense)])
    reasons: dict[int, str] = {}
    for labels, reason in dense.protections:
        for c in np.unique(root[labels]):
            reasons.setdefault(int(c), reason)
    for c in _read_twice(dense, root, reasons):
        reasons.setdefault(
            c, "the weight of a grouped convolution, which cuts each group's own, is read elsewhere"
        )
    produced = np.zeros(count, dtype=bool)
    for labels in dense.output_labels:
        produced[root[labels[labels != NONE]]] = True
    free = produced.copy()
    free[list(reasons)] = False
    channels = Channels(root, count, free, reasons, ())
    ties = [CountTie(tuple(channels.at(r) for r in tie.rows), tie.node) for tie in dense.ties]
    for node, f in dense.reshaped:
        ties += _block(channels.at(f.labels.squeeze().numpy()), node.name)
    return Channels(root, count, free, reasons, tuple(t for t in ties if any(_real(r) for r in t.rows)))


def _read_twice(dense: DensePass, root: Ints, reasons: Mapping[int, str]) -> list[int]:
    """Channels of the inputs of grouped convolutions whose weight's input dimension has other readers."""
    out: list[int] = []
    sizes = np.bincount(root)
    for name, rows in dense.group_inputs.items():
        if dense.registry.has(name, 1):
            start = dense.registry.start(name, 1)
            own = root[start : start + rows.shape[1]]
            if (sizes[own] > 1).any() or reasons.keys() & set(own.tolist()):
                out += [*own.tolist(), *np.unique(root[rows[rows != NONE]]).tolist()]
    return out


def _real(row: Ints) -> bool:
    return bool((row != NONE).any())


def find_single_channels(dense: DensePass) -> Ints:
    """The channel of each label, `[labels]`, with channels that stay or go together counted one by one."""
    return _connect(dense, dense.edges)[0]


def _blocks(dense: DensePass) -> list[tuple[Labels, Labels]]:
    """Edges between the channels that stay or go together."""
    out = []
    for rows in dense.joined.values():
        first, others = np.broadcast_to(rows[:, :1], rows[:, 1:].shape).reshape(-1), rows[:, 1:].reshape(-1)
        real = (first != NONE) & (others != NONE)
        out.append((first[real], others[real]))
    return out


def _connect(dense: DensePass, edges: Sequence[tuple[Labels, Labels]]) -> tuple[Ints, int]:
    size = dense.registry.size
    if edges:
        a = np.concatenate([e[0] for e in edges], dtype=np.int32)  # what the sparse graph holds: no copy
        b = np.concatenate([e[1] for e in edges], dtype=np.int32)
    else:
        a = b = np.empty(0, dtype=np.int32)
    graph = coo_matrix((np.ones(a.size, dtype=np.int8), (a, b)), shape=(size, size))
    count, root = connected_components(graph, directed=False)
    return root.astype(np.int64), int(count)


def _block(labels: Ints, node: str) -> list[CountTie]:
    """A view in several dimensions stays a full block if equally many channels stay in each row."""
    dims = [d for d in range(labels.ndim) if not (labels == labels.take([0], d)).all()]
    if len(dims) < 2:
        return []
    index = tuple(slice(None) if d in dims else 0 for d in range(labels.ndim))
    matrix = labels[index].reshape(-1, labels.shape[dims[-1]])
    return [CountTie(tuple(matrix), node)]
