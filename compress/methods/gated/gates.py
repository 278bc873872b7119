"""Channel gates: one factor per channel, multiplied onto the parameters where zero stays zero.

With a gate at 0 the dense network computes what the network without that channel computes; a gate at 1 has no
effect. All parameters of a channel share its gate, as parametrizations (`torch.nn.utils.
parametrize`), so the user's channels, names and forward code are unchanged. Channels of which equally many
must be kept (see `CountTie`) share one gate as well; such a set is called a unit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compress.graph import ChannelGraph
from compress.graph.labels import NONE
from compress.graph.placement import MaskPoint

LEAKAGE = 1e-6
"""Value of a closed gate while it may still reopen. At exactly zero the ReLU after it would have zero
gradient, and a closed channel could never reopen. The gates that are deployed are exactly zero."""

GATES_NAME = "channel_gates"
"""Name of the module that holds the gates, at the root of the gated network."""


def units(graph: ChannelGraph, fixed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the unit of each class `[channels]`; -1 for a class that is always kept.

    Args:
        graph: the channel graph.
        fixed: channels `[channels]` that are kept in addition to the protected ones.
    """
    channels = graph.channels
    parent = np.arange(channels.count)
    free = channels.removable & ~fixed
    changed = True
    rows = [[np.unique(r[r != NONE]) for r in tie.rows] for tie in channels.ties]
    while changed:  # a row with a fixed class fixes its whole tie, which may fix others
        changed = False
        for tie in rows:
            counts = {(int(free[r].sum()), r.size) for r in tie if r.size}
            every = (
                np.unique(np.concatenate([r for r in tie if r.size]))
                if counts
                else np.empty(0, dtype=np.int64)
            )
            uneven = len(counts) > 1 or any(some != whole for some, whole in counts)
            if uneven and free[every].any():
                free[every] = False
                changed = True
    for tie in rows:
        for row in tie[1:]:
            for a, b in zip(tie[0], row, strict=False):
                if free[a] and free[b]:
                    parent[_root(parent, int(b))] = _root(parent, int(a))
    out = np.full(channels.count, -1, dtype=np.int64)
    roots = np.array([_root(parent, int(i)) for i in np.flatnonzero(free)], dtype=np.int64)
    out[free] = np.unique(roots, return_inverse=True)[1]
    return out


def _root(parent: NDArray[np.int64], i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = int(parent[i])
    return i


def best_of(layer: Tensor, scores: Tensor) -> Tensor:
    """Return 1 for the unit with the highest score of each layer (the first of equals), else 0 `[units]`.

    Args:
        layer: number of each unit's layer `[units]`.
        scores: of each unit `[units]`.
    """
    size = int(scores.numel())
    highest = scores.new_full((size,), -torch.inf).scatter_reduce(0, layer, scores, "amax")
    index = torch.arange(size, device=scores.device)
    candidates = torch.where(scores >= highest[layer], index, size)
    first = torch.full_like(index, size).scatter_reduce(0, layer, candidates, "amin")
    return (index == first[layer]).to(scores.dtype)


def layer_of(count: int, groups: Iterable[NDArray[np.int64]]) -> Tensor:
    """Return the number of the layer of each unit `[count]`."""
    layer = torch.zeros(count, dtype=torch.int64)
    for i, group in enumerate(groups):
        layer[torch.from_numpy(group)] = i
    return layer


class Gates(nn.Module):
    """The gates of a network; a method subclasses it with the parameters that it learns.

    Args:
        unit_of: see `units`.

    Attributes:
        unit_of: unit of each class `[channels]`, the number of units for a class that is always kept.
        fixed: the final gates `[units]`, 0 or 1, once `frozen` is 1.
        budget_share: share of the dense cost that the budget allows in this step.
        two_places: whether there are masks before the norms too; `acts` then selects which ones are active.
        index: unit of each slice of every gated tensor, concatenated.
    """

    unit_of: Tensor
    fixed: Tensor
    frozen: Tensor
    budget_share: Tensor
    index: Tensor

    def __init__(self, unit_of: NDArray[np.int64]) -> None:
        super().__init__()
        self.count = int(unit_of.max(initial=-1)) + 1
        self.two_places = False
        self.register_buffer(
            "unit_of", torch.from_numpy(np.where(unit_of < 0, self.count, unit_of)), persistent=False
        )
        self.register_buffer("fixed", torch.ones(self.count))
        self.register_buffer("frozen", torch.zeros(()))
        self.register_buffer("budget_share", torch.ones(()), persistent=False)
        self.register_buffer("index", torch.empty(0, dtype=torch.int64), persistent=False)
        self._parts: list[GatedTensor] = []
        self._relaxed: Tensor | None = None

    def forward(self, outputs: Tensor) -> Tensor:
        """Return the outputs unchanged: an `nn.Sequential` calls all its children, the gates last."""
        return outputs

    def relaxed(self) -> Tensor:
        """Return the gates while they are learned `[units]`, in training."""
        raise NotImplementedError

    def binary(self) -> Tensor:
        """Return the gates as they would be deployed now `[units]`, 0 or 1."""
        raise NotImplementedError

    def step(self) -> None:
        """Run before every training step; random numbers are drawn here and not in a forward pass."""

    def learned(self) -> Tensor:
        """Return `relaxed`, computed once for a forward pass and the loss that follows it."""
        return self._relaxed if self._relaxed is not None else self.relaxed()

    def values(self) -> Tensor:
        """Return the gates of this forward pass `[units + 1]`, the last one for channels always kept."""
        if self.training:
            learned = self.learned()
            learned = torch.where(learned < LEAKAGE, learned + (LEAKAGE - learned).detach(), learned)
        else:
            learned = self.binary()
        now = torch.where(self.frozen > 0, self.fixed, learned)
        return torch.cat([now, now.new_ones(1)])

    def acts(self, before: bool) -> Tensor:
        """Return 1 if the masks before (or after) the norms are active now, else 0."""
        return self.frozen.new_zeros(()) if before else self.frozen.new_ones(())

    def keep(self, of_units: Tensor) -> Tensor:
        """Return the value of each class `[channels]` from the values of the units `[units]`."""
        return torch.cat([of_units, of_units.new_ones(1)])[self.unit_of]

    @torch.no_grad()
    def freeze(self, mask: NDArray[np.bool_]) -> None:
        """Fix the gates to `mask` `[units]`."""
        self.fixed.copy_(torch.from_numpy(mask.astype(np.float32)))
        self.frozen.fill_(1.0)

    @property
    def is_frozen(self) -> bool:
        """Whether the gates are fixed (waits for the device)."""
        return bool(self.frozen.item() > 0)

    def set_parts(self, parts: Iterable[GatedTensor]) -> None:
        """Register the gated tensors, vectors first."""
        self._parts = sorted(parts, key=lambda part: not part.is_vector)
        at = 0
        for part in self._parts:
            part.at = slice(at, at + part.index.numel())
            at = part.at.stop
        self.index = torch.cat([part.index for part in self._parts]) if self._parts else self.index

    def factors(self, index: Tensor) -> dict[bool, Tensor]:
        """Return the factors of slices of units `index`, after the norms (False) and before them (True)."""
        factors = self.values()[index]
        if not self.two_places:
            return {False: factors, True: factors}
        active = {before: self.acts(before) for before in (False, True)}
        return {before: some * factors + (1 - some) for before, some in active.items()}

    def _before_forward(self, module: nn.Module, args: Any) -> None:
        """Gate the norms of the whole network at once.

        One gather, one product and one split for all of them: a network has about a hundred norms, and each
        would need several operations on a few numbers, forward and backward.
        """
        self._relaxed = self.relaxed() if self.training else None
        factors = self.factors(self.index)
        vectors = [part for part in self._parts if part.is_vector]
        if vectors:
            tensors = [part.original for part in vectors]
            end = vectors[-1].at.stop
            chosen = (
                torch.cat([factors[part.before][part.at] for part in vectors])
                if self.two_places
                else factors[False][:end]
            )
            flat = torch.cat(tensors)
            gated = torch.split(flat * chosen.to(flat.dtype), [tensor.numel() for tensor in tensors])
            for part, tensor in zip(vectors, gated, strict=True):
                part.gated = tensor
        for part in self._parts[len(vectors) :]:
            part.factor = factors[part.before][part.at]

    def _after_forward(self, module: nn.Module, args: Any, output: Any) -> None:
        for part in self._parts:
            part.gated = part.factor = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_relaxed": None}


class GatedTensor(nn.Module):
    """The parametrization of one tensor: each slice along `dim` times the gate of its channel.

    Args:
        gates: the network's gates.
        index: unit of each slice `[width]`.
        dim: dimension of the channels.
        rank: number of dimensions of the tensor.
        before: whether the mask is before a norm.
        owner: the module that holds the tensor, and the tensor's name there.

    Attributes:
        at: its range in the gates' `index`.
        gated: the gated tensor during a forward pass of the network, if it is a vector.
        factor: the factors of its slices during a forward pass, if it is not a vector.
    """

    index: Tensor

    def __init__(
        self, gates: Gates, index: Tensor, dim: int, rank: int, before: bool, owner: tuple[nn.Module, str]
    ) -> None:
        super().__init__()
        self._gates = (gates,)  # not a submodule: the gates live at the root of the network
        self._owner = owner
        self.before = before
        self._shape = [-1 if d == dim else 1 for d in range(rank)]
        self.register_buffer("index", index, persistent=False)
        self.at = slice(0, 0)
        self.gated: Tensor | None = None
        self.factor: Tensor | None = None

    @property
    def original(self) -> Tensor:
        """The parameter that is trained."""
        module, attribute = self._owner
        chain: Any = module.parametrizations
        tensor: Tensor = chain[attribute].original
        return tensor

    @property
    def is_vector(self) -> bool:
        """Whether it has one number per channel and one gate, and is gated together with all such tensors."""
        module, attribute = self._owner
        chain: Any = module.parametrizations
        return len(self._shape) == 1 and len(chain[attribute]) == 1

    def forward(self, tensor: Tensor) -> Tensor:
        """Return the gated tensor, of the same shape."""
        if self.gated is not None:
            return self.gated.to(tensor.dtype)
        (gates,) = self._gates
        factor = self.factor if self.factor is not None else gates.factors(self.index)[self.before]
        return tensor * factor.to(tensor.dtype).view(self._shape)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "gated": None, "factor": None}


def add_gates(
    model: nn.Module,
    graph: ChannelGraph,
    gates: Gates,
    after: Iterable[MaskPoint],
    before: Iterable[MaskPoint] = (),
    root: NDArray[np.int64] | None = None,
) -> None:
    """Add gates to a network, in place.

    Args:
        model: a copy of the dense network of `graph`.
        graph: the channel graph.
        gates: the gates of the network.
        after: places where zero stays zero.
        before: places in front of norms (see `Gates.acts`).
        root: channel of each label; None: the graph's.
    """
    places = [(point, False) for point in after] + [(point, True) for point in before]
    gates.two_places = bool(list(before))
    owners, parts = _owners(model), list[GatedTensor]()
    root, registry = graph.channels.of_label if root is None else root, graph.facts.registry
    for point, is_before in places:
        start = registry.start(point.name, point.dim)
        for module, attribute in owners[point.name]:
            tensor = getattr(module, attribute)
            index = gates.unit_of[torch.from_numpy(root[start : start + tensor.shape[point.dim]])]
            part = GatedTensor(gates, index, point.dim, tensor.dim(), is_before, (module, attribute))
            parametrize.register_parametrization(module, attribute, part)
            parts.append(part)
    gates.set_parts(parts)
    model.add_module(GATES_NAME, gates)
    model.register_forward_pre_hook(gates._before_forward)
    model.register_forward_hook(gates._after_forward, always_call=True)


def _owners(model: nn.Module) -> dict[str, list[tuple[nn.Module, str]]]:
    """Return, for every name of every parameter, all modules that hold it."""
    by_id: dict[int, list[tuple[nn.Module, str]]] = {}
    names: dict[str, int] = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        for attribute, tensor in module._parameters.items():
            if tensor is not None:
                names[f"{prefix}.{attribute}" if prefix else attribute] = id(tensor)
                uses = by_id.setdefault(id(tensor), [])
                if (module, attribute) not in uses:
                    uses.append((module, attribute))
    return {name: by_id[key] for name, key in names.items()}


def gates_of(model: nn.Module) -> Gates:
    """Return the gates of a gated network."""
    gates = model.get_submodule(GATES_NAME)
    assert isinstance(gates, Gates)
    return gates


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of a gated network without its gates, under the dense network's own names."""
    out = {}
    for name, tensor in model.state_dict().items():
        if name.startswith(f"{GATES_NAME}."):
            continue
        path, separator, rest = name.partition("parametrizations.")
        if not separator:
            out[name] = tensor
        elif rest.endswith(".original"):
            out[path + rest.removesuffix(".original")] = tensor
    return out
