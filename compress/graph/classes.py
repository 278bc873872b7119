"""From labels to classes: connected labels are one channel, and what stays or goes together one class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from compress.graph.context import CountTie, Dense, Labels
from compress.graph.labels import NONE

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Classes:
    """The channels of a network.

    Attributes:
        root: class of each label, `[labels]`: one channel, or several that stay or go together.
        count: number of classes.
        free: classes that may be dropped, bool `[classes]`.
        why: for classes that may not, the reason that was found first.
        ties: rows of classes of which equally many positions must stay.
    """

    root: Ints
    count: int
    free: NDArray[np.bool_]
    why: dict[int, str]
    ties: tuple[CountTie, ...]

    def of(self, labels: Labels) -> Ints:
        """The classes of labels; NONE stays NONE."""
        out = self.root[labels]
        out[labels == NONE] = NONE
        return out


def find_classes(dense: Dense) -> Classes:
    """Join what is tied, protect what must stay, and turn views into count ties."""
    root, count = _connect(dense, [*dense.edges, *_blocks(dense)])
    why: dict[int, str] = {}
    for labels, reason in dense.kept:
        for c in np.unique(root[labels]):
            why.setdefault(int(c), reason)
    for c in _read_twice(dense, root, why):
        why.setdefault(
            c, "the weight of a grouped convolution, which cuts each group's own, is read elsewhere"
        )
    produced = np.zeros(count, dtype=bool)
    for labels in dense.produced:
        produced[root[labels[labels != NONE]]] = True
    free = produced.copy()
    free[list(why)] = False
    classes = Classes(root, count, free, why, ())
    ties = [CountTie(tuple(classes.of(r) for r in tie.rows), tie.node) for tie in dense.ties]
    for node, f in dense.reshaped:
        ties += _block(classes.of(f.labels.squeeze().numpy()), node.name)
    return Classes(root, count, free, why, tuple(t for t in ties if any(_real(r) for r in t.rows)))


def _read_twice(dense: Dense, root: Ints, why: Mapping[int, str]) -> list[int]:
    """Classes of the inputs of grouped convolutions whose weight's input dimension has other readers."""
    out: list[int] = []
    sizes = np.bincount(root)
    for name, rows in dense.groups.items():
        if dense.registry.has(name, 1):
            start = dense.registry.start(name, 1)
            own = root[start : start + rows.shape[1]]
            if (sizes[own] > 1).any() or why.keys() & set(own.tolist()):
                out += [*own.tolist(), *np.unique(root[rows[rows != NONE]]).tolist()]
    return out


def _real(row: Ints) -> bool:
    return bool((row != NONE).any())


def find_channels(dense: Dense) -> Ints:
    """The channel of each label, `[labels]`: finer than its class where several channels go together."""
    return _connect(dense, dense.edges)[0]


def _blocks(dense: Dense) -> list[tuple[Labels, Labels]]:
    """Edges between the channels that stay or go together."""
    out = []
    for rows in dense.blocks.values():
        first, others = np.broadcast_to(rows[:, :1], rows[:, 1:].shape).reshape(-1), rows[:, 1:].reshape(-1)
        real = (first != NONE) & (others != NONE)
        out.append((first[real], others[real]))
    return out


def _connect(dense: Dense, edges: Sequence[tuple[Labels, Labels]]) -> tuple[Ints, int]:
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


def members(dense: Dense, classes: Classes) -> dict[int, list[tuple[str, int, int]]]:
    """For each free class the parameter positions `(name, dim, index)` that are cut with it."""
    out: dict[int, list[tuple[str, int, int]]] = defaultdict(list)
    for name, dim, start, width in dense.registry.dims():
        for i, c in enumerate(classes.root[start : start + width]):
            if classes.free[c]:
                out[int(c)].append((name, dim, i))
    return out
