"""Labeled tensors: the channel that every element of a tensor belongs to.

A label is an integer: one index of one dimension of one parameter or buffer (see `LabelRegistry`). A tensor
may carry several *fields* of labels: a convolution's weight has one along its output and one along its input
dimension; activations mostly have one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ints = NDArray[np.int64]

NONE = -1
"""The label of data that is never cut, such as the network's input."""


@dataclass(frozen=True)
class LabelField:
    """Labels of a tensor's elements.

    Attributes:
        labels: int64, of the tensor's rank; full size along `dims`, size 1 along every other dimension.
        dims: the dimensions along which the labels vary.
    """

    labels: Tensor
    dims: tuple[int, ...]

    def over(self, shape: Sequence[int], dims: Iterable[int] | None = None) -> Tensor:
        """Return the labels expanded to `shape`, along all dimensions or only along `dims`."""
        expanded = set(range(len(shape)) if dims is None else dims)
        sizes = [shape[d] if d in expanded else self.labels.shape[d] for d in range(len(shape))]
        return self.labels.expand(sizes)

    def along(self, dim: int) -> Tensor:
        """The labels as a matrix `[size of dim, everything else]`."""
        return self.labels.movedim(dim, 0).reshape(self.labels.shape[dim], -1)


@dataclass(frozen=True)
class LabeledTensor:
    """The shape of a tensor and the labels of its elements.

    Attributes:
        shape: sizes of the tensor.
        fields: its labels.
        zero_when_dropped: every element is zero wherever the channel of its label is dropped.
        source: name of the parameter or buffer this is, if nothing has moved or changed it.
        origin: name of the parameter whose elements these are, at their original positions, changed one by
            one or row by row (along dimension 0), as in a weight times a gain for each filter.
    """

    shape: tuple[int, ...]
    fields: tuple[LabelField, ...] = ()
    zero_when_dropped: bool = True
    source: str | None = None
    origin: str | None = None

    @property
    def columns_of(self) -> str | None:
        """The parameter whose dimensions but the first may be reordered in its place."""
        return self.source or self.origin

    def labels(self) -> Tensor:
        """All labels that occur, without duplicates and without `NONE`."""
        if not self.fields:
            return torch.empty(0, dtype=torch.int64)
        every: Tensor = torch.unique(torch.cat([f.labels.reshape(-1) for f in self.fields]))
        return every[every != NONE]

    def fields_along(self, dim: int) -> list[LabelField]:
        """The fields that vary along a dimension."""
        return [f for f in self.fields if dim in f.dims]


def field_along(labels: Tensor, rank: int, dim: int) -> LabelField:
    """A field of the given rank that varies along `dim` only."""
    shape = [1] * rank
    shape[dim] = labels.numel()
    return LabelField(labels.reshape(shape), (dim,))


def compact(labels: Tensor) -> LabelField:
    """A field from fully expanded labels: dimensions along which they are constant shrink to size 1."""
    dims = []
    for d, size in enumerate(labels.shape):
        if size > 1:
            first = labels.narrow(d, 0, 1)
            if bool((labels == first).all()):
                labels = first
            else:
                dims.append(d)
    return LabelField(labels.contiguous(), tuple(dims))


def shrink(labels: Tensor, dims: tuple[int, ...]) -> LabelField | None:
    """As `compact`, with the varying dimensions given; None if the labels vary along others too."""
    for d, size in enumerate(labels.shape):
        if d not in dims and size != 1:
            first = labels.narrow(d, 0, 1)
            if not bool((labels == first).all()):
                return None
            labels = first
    return LabelField(labels.contiguous(), dims)


def broadcast(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors expanded to their common shape."""
    rank = max(t.dim() for t in tensors)
    full = [t.reshape([1] * (rank - t.dim()) + list(t.shape)) for t in tensors]
    shape = [next((t.shape[d] for t in full if t.shape[d] != 1), 1) for d in range(rank)]
    return [t.expand(shape) for t in full]


Movement = Callable[[Sequence[Tensor]], Tensor]
"""A pure data movement from one or several label tensors to one."""


class LabelRegistry:
    """Hands out labels: one for each index of each dimension of each parameter and buffer.

    Dimensions of size 1 have none: a single channel is never cut. Zero padding gets labels that belong to
    no parameter, so that a padded position can be dropped with the channel it is added to.
    """

    def __init__(self) -> None:
        self.size = 0
        self._start: dict[tuple[str, int], tuple[int, int]] = {}
        self._fresh: dict[str, Tensor] = {}

    def parameter(self, name: str, shape: Sequence[int]) -> LabeledTensor:
        """Labels for a parameter or buffer; the same labels at each call."""
        fields = []
        for dim, width in enumerate(shape):
            if width > 1:
                if (name, dim) not in self._start:
                    self._start[name, dim] = (self.size, width)
                    self.size += width
                start = self._start[name, dim][0]
                fields.append(field_along(torch.arange(start, start + width), len(shape), dim))
        return LabeledTensor(tuple(shape), tuple(fields), True, name)

    def fresh(self, key: str, width: int) -> Tensor:
        """Labels that belong to no parameter; the same at each call with the same key."""
        if key not in self._fresh:
            self._fresh[key] = torch.arange(self.size, self.size + width)
            self.size += width
        return self._fresh[key]

    def dims(self) -> list[tuple[str, int, int, int]]:
        """Every labeled dimension: `(name, dim, first label, width)`."""
        return [(name, dim, start, width) for (name, dim), (start, width) in self._start.items()]

    def start(self, name: str, dim: int) -> int:
        """The first label of a dimension of a parameter."""
        return self._start[name, dim][0]

    def has(self, name: str, dim: int) -> bool:
        """Return whether this dimension carries labels."""
        return (name, dim) in self._start
