"""Mask placement: where a mask acts so that a dropped channel is zero at every weight that reads it.

A layer, a norm with affine parameters and an added parameter each set a channel's value. The last of them
before a reading weight decides, so a mask acts on the norm's affine parameters where every path to a reader
passes a norm, and on the layer's own rows and bias where one does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch.fx import Node

from compress.graph.labels import NONE, LabeledTensor
from compress.graph.operators import operator_of
from compress.graph.program import parameter_names, parameter_only
from compress.graph.rule_context import static_shape

if TYPE_CHECKING:
    from compress.graph.channel_graph import ChannelGraph


@dataclass(frozen=True)
class MaskPoint:
    """One dimension of one parameter that a mask multiplies: ``after`` a norm or ``before`` it."""

    name: str
    dim: int


@dataclass(frozen=True)
class Branch:
    """A layer that ends a residual branch: its output goes, through its norm, into an add and nowhere else.

    Attributes:
        layer: name of the layer. module: path of the module whose output is added. width: its channels.
        tensors: `(parameter or buffer, dimension)` of the layer's rows and the norm's tensors.
    """

    layer: str
    module: str
    width: int
    tensors: tuple[tuple[str, int], ...]


class Placement:
    """The places of a network where masks act.

    Args:
        graph: its channel graph, traced without free pads.
    """

    def __init__(self, graph: ChannelGraph) -> None:
        self._graph = graph
        self._names = parameter_names(graph.program)
        self._fixed = parameter_only(graph.program.graph, set(self._names))
        self._buffers = set(graph.program.graph_signature.inputs_to_buffers.values())
        self._groups = {term.node: term.groups for term in graph.facts.terms}
        nodes = list(graph.program.graph.nodes)
        self._leaks: dict[Node, bool] = {}
        for node in reversed(nodes):
            self._leaks[node] = node.op == "output" or any(self._opens(node, user) for user in node.users)
        self._calls = [node for node in nodes if node.op == "call_function"]

    def _opens(self, node: Node, user: Node) -> bool:
        """Return whether a value reaches a reading weight through this user without a norm between."""
        if user.op == "output" or self._groups.get(user.name, 0) != 0:
            return True
        resets = self._is_norm(user) and user.args[0] is node
        return not resets and self._leaks[user]

    def _is_norm(self, node: Node) -> bool:
        """A norm with weight and bias."""
        return operator_of(node).sets_channels and all(isinstance(a, Node) for a in node.args[1:3])

    def _parameters(self, node: Node) -> Iterator[str]:
        """Names of the parameters and buffers a node reads, also through what is computed from them alone."""
        front = [source for source in node.all_input_nodes if source in self._fixed]
        while front:
            source = front.pop(0)
            if source.name in self._names:
                yield self._names[source.name]
            front += source.all_input_nodes

    def _free_dims(self, name: str) -> list[MaskPoint]:
        """The dimensions of a parameter that make channels which may be dropped."""
        facts, channels = self._graph.facts, self._graph.channels
        out = []
        for tensor, dim, start, width in facts.registry.dims():
            if (
                tensor == name
                and start not in self._consumed
                and channels.removable[channels.of_label[start : start + width]].any()
            ):
                out.append(MaskPoint(name, dim))
        return out

    @cached_property
    def _consumed(self) -> set[int]:
        """First labels of dimensions that read channels."""
        return {
            int(labels[labels != NONE][0])
            for labels in self._graph.facts.input_labels
            if (labels != NONE).any()
        } | {
            self._graph.facts.registry.start(name, 1)
            for name in self._graph.facts.group_inputs
            if self._graph.facts.registry.has(name, 1)
        }

    @cached_property
    def after(self) -> tuple[MaskPoint, ...]:
        """The last parameters that set a channel's value before each reader."""
        points: dict[MaskPoint, None] = {}
        for node in self._calls:
            if not self._leaks[node]:
                continue
            for name in self._sources(node):
                if name not in self._buffers:
                    points.update(dict.fromkeys(self._free_dims(name)))
        return tuple(points)

    def _sources(self, node: Node) -> list[str]:
        """Parameters that this node adds to a channel's value or multiplies with other channels."""
        if self._is_norm(node):
            return [
                self._names[a.name] for a in node.args[1:3] if isinstance(a, Node) and a.name in self._names
            ]
        if node.name in self._groups:
            return list(self._parameters(node))
        row = operator_of(node)
        scales_zero = row.arithmetic == "mul" and self._data_is_zero(node)
        if scales_zero or row.view or row.sets_channels:
            return []
        return list(self._parameters(node))

    def _data_is_zero(self, node: Node) -> bool:
        """Return whether the data that a node scales is zero for dropped channels, whatever the factor."""
        data = [self._graph.values.get(n) for n in node.all_input_nodes if n not in self._fixed]
        return all(v.zero_when_dropped for v in data if isinstance(v, LabeledTensor))

    @cached_property
    def before(self) -> tuple[MaskPoint, ...]:
        """The rows and biases of every layer that makes channels, whatever follows it."""
        points: dict[MaskPoint, None] = {}
        for node in self._calls:
            if node.name in self._groups:
                for name in self._parameters(node):
                    points.update(dict.fromkeys(self._free_dims(name)))
        return tuple(points)

    @cached_property
    def never(self) -> NDArray[np.bool_]:
        """Channels that a mask on parameters cannot make zero, bool `[channels]`.

        Those that a norm without affine parameters shifts by its running mean, or a buffer is added to.
        """
        out = np.zeros(self._graph.channels.count, dtype=np.bool_)
        for node in self._calls:
            shifts = operator_of(node).sets_channels and not self._is_norm(node)
            adds = not self._is_norm(node) and any(n in self._buffers for n in self._sources(node))
            if (shifts or adds) and self._leaks[node]:
                out[self._channels_of(node)] = True
        return out

    @cached_property
    def residual(self) -> NDArray[np.bool_]:
        """Channels that reach an add of two data tensors, bool `[channels]`."""
        out = np.zeros(self._graph.channels.count, dtype=np.bool_)
        for node in self._adds():
            out[self._channels_of(node)] = True
        return out

    @property
    def streams(self) -> frozenset[str]:
        """Names of the groups that reach an add of two data tensors."""
        return frozenset(g.name for g in self._graph.groups if self.residual[g.channels].any())

    @cached_property
    def branches(self) -> tuple[Branch, ...]:
        """The last layers of residual branches; one for each add, the first operand if both are one."""
        used = [term.weight for term in self._graph.facts.terms]
        out = []
        for node in self._adds():
            branch = self._branch(node.args[0]) or self._branch(node.args[1])
            if branch is not None and used.count(branch.tensors[0][0]) == 1:
                out.append(branch)
        return tuple(out)

    def _branch(self, end: object) -> Branch | None:
        """The branch whose output this node is; None where something else hangs on it."""
        if not isinstance(end, Node) or len(end.users) != 1:
            return None
        norm = end if self._is_norm(end) else None
        layer = end.args[0] if norm is not None else end
        if not isinstance(layer, Node) or len(layer.users) != 1 or self._groups.get(layer.name) != 1:
            return None
        if operator_of(layer).layer != "conv":
            return None
        operands = [*layer.args[1:3], *(norm.args[1:5] if norm is not None else ())]
        names = [self._names[a.name] for a in operands if isinstance(a, Node) and a.name in self._names]
        registry, channels = self._graph.facts.registry, self._graph.channels
        if not names or not all(registry.has(name, 0) for name in names):
            return None
        start, width = registry.start(names[0], 0), static_shape(layer)[1]
        if not channels.removable[channels.of_label[start : start + width]].all():
            return None
        last = names[-1] if norm is not None else names[0]
        return Branch(
            names[0].removesuffix(".weight"), last.rpartition(".")[0], width, tuple((n, 0) for n in names)
        )

    def _adds(self) -> Iterator[Node]:
        for node in self._calls:
            both = [a for a in node.args[:2] if isinstance(a, Node) and self._has_channels(a)]
            if (
                operator_of(node).arithmetic == "add"
                and len(both) == 2
                and not any(a.name in self._names for a in both)
            ):
                yield node

    def _has_channels(self, node: Node) -> bool:
        value = self._graph.values.get(node)
        return isinstance(value, LabeledTensor) and bool(value.fields)

    def _channels_of(self, node: Node) -> NDArray[np.int64]:
        values = [self._graph.values.get(n) for n in (node, *node.all_input_nodes)]
        labels = [
            v.labels().numpy()
            for v in values
            if isinstance(v, LabeledTensor) and v.fields and v.source is None
        ]
        root = self._graph.channels.of_label
        return np.unique(root[np.concatenate(labels)]) if labels else np.empty(0, dtype=np.int64)


__all__ = ["Branch", "MaskPoint", "Placement"]
