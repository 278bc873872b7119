"""The channel graph of a network: its channels, the groups that are cut together, and what is protected."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Node

from compress.core.errors import CompressError, Exit
from compress.graph.channels import Channels, find_channels, find_single_channels
from compress.graph.computed_weights import ComputedWeight, find_computed_weights
from compress.graph.dense_pass import DensePass
from compress.graph.feasibility import protect_infeasible
from compress.graph.groups import ChannelGroup, Protected, find_groups, find_protected
from compress.graph.labels import NONE, Ints, LabeledTensor
from compress.graph.program import as_inputs, export_program
from compress.graph.propagation import run_dense_pass
from compress.graph.rule_context import ChannelMismatch
from compress.graph.width_choices import WidthChoice, find_width_choices

T = TypeVar("T")


class ChannelGraph:
    """Channels of a network that can be cut, and groups that must be cut together.

    Created by `trace`; the network is not changed. The program is traced at once. Channels, groups and
    protected layers are computed on first access, which includes one trial cut to find the operators that a
    narrow network cannot follow.

    Attributes:
        model: the network.
        inputs: the example inputs.
        free_pads: see `trace`.
        program: the exported program.
        facts: what the rules recorded about it.
        values: the labeled value of each node of `program`.
        computed: weights that are computed from a parameter, by the parameter's node.
    """

    def __init__(self, model: nn.Module, inputs: tuple[Any, ...], free_pads: bool) -> None:
        self.model = model
        self.inputs = inputs
        self.free_pads = free_pads
        self.program: ExportedProgram = export_program(model, inputs)
        self.computed: Mapping[Node, ComputedWeight] = find_computed_weights(self.program)
        facts, values = run_dense_pass(self.program, free_pads, self.computed)
        self.facts: DensePass = facts
        self.values: dict[Node, Any] = values
        self._division: _Division | None = None
        self._checked = False
        self._lock = threading.RLock()
        self._cache: dict[str, Any] = {}

    @property
    def channels(self) -> Channels:
        """The channels of the network."""
        return self._divided().channels

    @property
    def single_channels(self) -> Ints:
        """The channel of each label, `[labels]`, with channels that go together counted one by one."""
        return self._divided().single_channels

    @property
    def groups(self) -> tuple[ChannelGroup, ...]:
        """The channel groups, in the order in which the network computes."""
        return self._divided().groups

    @property
    def width_choices(self) -> tuple[WidthChoice, ...]:
        """The independent choices of how many channels stay."""
        return self._divided().width_choices

    @property
    def protected(self) -> tuple[Protected, ...]:
        """Layers some of whose channels are never cut, with the reasons."""
        return self._divided().protected

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the example inputs."""
        return tuple(tuple(x.shape) for x in self.inputs if isinstance(x, Tensor))

    def group(self, name: str) -> ChannelGroup:
        """Return the group called `name`.

        Raises:
            KeyError: there is none.
        """
        for g in self.groups:
            if g.name == name:
                return g
        raise KeyError(name)

    def cached(self, key: str, make: Callable[[], T]) -> T:
        """Return `make()`, computed once for each division of the network into channels."""
        if key not in self._cache:
            self._cache[key] = make()
        value: T = self._cache[key]
        return value

    def mixing_weights(self) -> list[str]:
        """Return weights whose rows `[outputs, inputs, ...]` all read the same inputs and can be dropped.

        Convolutions and linear layers, but not depthwise, grouped or transposed convolutions.
        """
        out = []
        for term in self.facts.terms:
            real = term.outputs[term.outputs != NONE]
            if term.groups != 1 or not real.size or not self.facts.registry.has(term.weight, 0):
                continue
            rows = real[0] == self.facts.registry.start(term.weight, 0)
            removable = self.channels.removable[self.channels.of_label[real]].any()
            if rows and removable and term.weight not in out:
                out.append(term.weight)
        return out

    def protect_at(self, mismatch: ChannelMismatch) -> None:
        """Keep every channel at a node that a narrow network cannot follow, or at the nearest before it."""
        why = f"cannot be cut exactly at {mismatch.node.name}: {mismatch.why}"
        before = int(self.channels.removable.sum())
        seen, front = {mismatch.node}, [mismatch.node, *mismatch.node.all_input_nodes]
        while front and int(self.channels.removable.sum()) == before:
            for node in front:
                for labeled in _flat(self.values[node]):
                    self.facts.protect(labeled.labels(), why)
            seen |= set(front)
            front = [n for node in front for n in node.all_input_nodes if n not in seen]
            self._divide()
        if int(self.channels.removable.sum()) == before:
            self.facts.protections.append((np.arange(self.facts.registry.size), why))
            self._divide()

    def _divided(self) -> _Division:
        """The division into channels and groups; the first call also makes the trial cut.

        Other threads wait for the trial cut, which itself reads the division. If it fails, the next call
        makes it again.
        """
        with self._lock:
            if self._division is None:
                self._divide()
            if not self._checked:
                self._checked = True
                try:
                    protect_infeasible(self)
                except BaseException:
                    self._checked = False
                    raise
            assert self._division is not None
            return self._division

    def _divide(self) -> None:
        """Find channels and groups from the facts; parts that cannot shrink together are protected."""
        self._division, self._cache = _Division(self.facts), {}
        while stuck := self._division.stuck():
            for choice in stuck:
                for g, part in choice.parts:
                    channels = self._division.groups[g].parts[part]
                    labels = np.flatnonzero(np.isin(self._division.channels.of_label, channels))
                    why = "equally many channels cannot be kept in each part"
                    self.facts.protections.append((labels, why))
            self._division = _Division(self.facts)

    def __repr__(self) -> str:
        cut = sum(g.width for g in self.groups)
        lines = [
            f"ChannelGraph of {type(self.model).__name__}: {len(self.groups)} groups with {cut} channels, "
            f"{len(self.protected)} protected layers"
        ]
        lines += [f"  {g.name}: {g.width} channels, {len(g.producers)} layers" for g in self.groups[:8]]
        lines += [f"  ... and {len(self.groups) - 8} more groups"] if len(self.groups) > 8 else []
        return "\n".join(lines)


class _Division:
    """Channels, groups and choices that follow from the facts at one moment."""

    def __init__(self, facts: DensePass) -> None:
        self.channels: Channels = find_channels(facts)
        self.single_channels: Ints = find_single_channels(facts) if facts.joined else self.channels.of_label
        self.groups: tuple[ChannelGroup, ...] = tuple(find_groups(facts, self.channels))
        self.width_choices: tuple[WidthChoice, ...] = find_width_choices(self.groups, self.channels)
        self.protected: tuple[Protected, ...] = tuple(find_protected(facts, self.channels))

    def stuck(self) -> list[WidthChoice]:
        """Return the width choices whose parts cannot keep fewer channels."""
        return [c for c in self.width_choices if not c.uniform and c.solve(0.0) in (None, c.sizes)]


def _flat(value: Any) -> list[LabeledTensor]:
    if isinstance(value, LabeledTensor):
        return [value]
    return [v for v in value if isinstance(v, LabeledTensor)] if isinstance(value, (list, tuple)) else []


def trace(
    model: nn.Module, example_inputs: Tensor | Sequence[Any], *, free_pads: bool = False
) -> ChannelGraph:
    """Read a network's channel graph through `torch.export`.

    Args:
        model: any network that `torch.export` accepts; it is not changed.
        example_inputs: one batch (two images or more, so that the batch size stays free).
        free_pads: let the two sides of a zero-padded shortcut keep unrelated channels, as the CIFAR ResNets
            of the DCFF paper do; plans then keep the middle channels (`criterion="window"`).

    Raises:
        CompressError: (exit 4) the model cannot be exported.
    """
    if not isinstance(model, nn.Module):
        raise CompressError(
            f"{model!r} is not a torch.nn.Module",
            hint="pass the network itself; compress.build(NAME) makes one of a name",
            code="untraceable",
            exit=Exit.BUILD,
        )
    if not isinstance(example_inputs, (Tensor, Sequence)) or isinstance(example_inputs, str):
        raise CompressError(
            f"the example inputs are {example_inputs!r}",
            hint="pass a batch of two images, such as torch.zeros(2, 3, 224, 224), or a tuple of inputs",
            code="untraceable",
            exit=Exit.BUILD,
        )
    return ChannelGraph(model, as_inputs(example_inputs), free_pads)


__all__ = ["ChannelGraph", "trace"]
