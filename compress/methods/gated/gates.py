"""Gates: one number a channel, multiplied onto the parameters where zero stays zero.

A gate of 0 makes the dense network compute what the network without that channel computes; a gate of 1
changes nothing. All parameters of a channel share its gate, as parametrizations (`torch.nn.utils.
parametrize`), so the user's classes, names and forward code stay. Channels of which equally many must be kept
(see `CountTie`) share one gate as well; such a set is called a unit.
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

TRACE = 1e-6
"""What a closed gate lets through while it may still open again. With exactly nothing, the ReLU behind it
would have the gradient zero, and a channel once closed could never come back. The gates that are deployed
are exactly zero."""

HOME = "channel_gates"
"""Name of the module that holds the gates, at the root of the gated network."""


def units(graph: ChannelGraph, fixed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The unit of each class `[classes]`; -1 for a class that is always kept.

    Args:
        graph: the channel graph. fixed: classes that shall be kept beside the protected ones.
    """
    classes = graph.classes
    parent = np.arange(classes.count)
    free = classes.free & ~fixed
    changed = True
    rows = [[np.unique(r[r != NONE]) for r in tie.rows] for tie in classes.ties]
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
    out = np.full(classes.count, -1, dtype=np.int64)
    roots = np.array([_root(parent, int(i)) for i in np.flatnonzero(free)], dtype=np.int64)
    out[free] = np.unique(roots, return_inverse=True)[1]
    return out


def _root(parent: NDArray[np.int64], i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = int(parent[i])
    return i


def best_of(layer: Tensor, scores: Tensor) -> Tensor:
    """1 for the unit with the highest score of each layer (the first of equals), else 0 `[units]`.

    Args:
        layer: number of each unit's layer `[units]`. scores: `[units]`.
    """
    size = int(scores.numel())
    highest = scores.new_full((size,), -torch.inf).scatter_reduce(0, layer, scores, "amax")
    index = torch.arange(size, device=scores.device)
    candidates = torch.where(scores >= highest[layer], index, size)
    first = torch.full_like(index, size).scatter_reduce(0, layer, candidates, "amin")
    return (index == first[layer]).to(scores.dtype)


def layer_of(count: int, groups: Iterable[NDArray[np.int64]]) -> Tensor:
    """The number of the layer of each unit `[count]`."""
    layer = torch.zeros(count, dtype=torch.int64)
    for i, group in enumerate(groups):
        layer[torch.from_numpy(group)] = i
    return layer


class Gates(nn.Module):
    """The gates of a network; a method subclasses it with what it learns.

    Args:
        unit_of: see `units`.

    Attributes:
        unit_of: unit of each class `[classes]`, the number of units for a class that is always kept.
        fixed: the final gates `[units]`, 0 or 1, once `frozen` is 1.
        wanted: the share of the cost that the budget allows in this step.
        two_places: whether there are masks before the norms too, of which `acts` then tells which ones act.
        index: unit of each slice of every gated tensor, one tensor after the other.
    """

    unit_of: Tensor
    fixed: Tensor
    frozen: Tensor
    wanted: Tensor
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
        self.register_buffer("wanted", torch.ones(()), persistent=False)
        self.register_buffer("index", torch.empty(0, dtype=torch.int64), persistent=False)
        self._parts: list[Gated] = []
        self._relaxed: Tensor | None = None

    def forward(self, outputs: Tensor) -> Tensor:
        """Let the network's outputs pass: a plain `nn.Sequential` calls all its children, its gates last."""
        return outputs

    def relaxed(self) -> Tensor:
        """The gates while they are learned `[units]`, in training."""
        raise NotImplementedError

    def binary(self) -> Tensor:
        """The gates as they would be deployed now `[units]`, 0 or 1."""
        raise NotImplementedError

    def step(self) -> None:
        """Run before every step of a training; what is random is drawn here and not in a forward pass."""

    def learned(self) -> Tensor:
        """`relaxed`, computed once for a forward pass and the loss that follows it."""
        return self._relaxed if self._relaxed is not None else self.relaxed()

    def values(self) -> Tensor:
        """The gates of this forward pass `[units + 1]`; the last one is for channels that are always kept."""
        if self.training:
            learned = self.learned()
            learned = torch.where(learned < TRACE, learned + (TRACE - learned).detach(), learned)
        else:
            learned = self.binary()
        now = torch.where(self.frozen > 0, self.fixed, learned)
        return torch.cat([now, now.new_ones(1)])

    def acts(self, before: bool) -> Tensor:
        """Whether masks before (or after) the norms act now, 0 or 1."""
        return self.frozen.new_zeros(()) if before else self.frozen.new_ones(())

    def keep(self, of_units: Tensor) -> Tensor:
        """From a value for each unit `[units]` to one for each class `[classes]`."""
        return torch.cat([of_units, of_units.new_ones(1)])[self.unit_of]

    @torch.no_grad()
    def freeze(self, mask: NDArray[np.bool_]) -> None:
        """From now on the gates are exactly these `[units]`."""
        self.fixed.copy_(torch.from_numpy(mask.astype(np.float32)))
        self.frozen.fill_(1.0)

    @property
    def is_frozen(self) -> bool:
        """Whether the gates are final (waits for the device)."""
        return bool(self.frozen.item() > 0)

    def lay_out(self, parts: Iterable[Gated]) -> None:
        """Take in the gates of single tensors, those of vectors first."""
        self._parts = sorted(parts, key=lambda part: not part.is_vector)
        at = 0
        for part in self._parts:
            part.at = slice(at, at + part.index.numel())
            at = part.at.stop
        self.index = torch.cat([part.index for part in self._parts]) if self._parts else self.index

    def factors(self, index: Tensor) -> dict[bool, Tensor]:
        """What slices of the units `index` are multiplied with, behind the norms (False) and before them."""
        factors = self.values()[index]
        if not self.two_places:
            return {False: factors, True: factors}
        acts = {before: self.acts(before) for before in (False, True)}
        return {before: some * factors + (1 - some) for before, some in acts.items()}

    def _open(self, module: nn.Module, args: Any) -> None:
        """Gate all norms of the network at once.

        One gather, one product and one split for all of them: a network has a hundred, and each would cost
        several operations on a few numbers, forwards and backwards.
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
                part.done = tensor
        for part in self._parts[len(vectors) :]:
            part.factor = factors[part.before][part.at]

    def _close(self, module: nn.Module, args: Any, output: Any) -> None:
        for part in self._parts:
            part.done = part.factor = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_relaxed": None}


class Gated(nn.Module):
    """The parametrization of one tensor: each slice along `dim` times the gate of its channel.

    Args:
        gates: the network's gates. index: unit of each slice `[width]`. before: a mask before a norm.
        owner: the module that holds the tensor, and under which name.

    Attributes:
        at: its stretch of the gates' `index`. done, factor: during a forward pass of the network, the gated
            tensor itself, or what its slices are multiplied with.
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
        self.done: Tensor | None = None
        self.factor: Tensor | None = None

    @property
    def original(self) -> Tensor:
        """The tensor that is trained."""
        module, attribute = self._owner
        chain: Any = module.parametrizations
        tensor: Tensor = chain[attribute].original
        return tensor

    @property
    def is_vector(self) -> bool:
        """Whether it is gated together with all others of its kind: one number a channel, one gate."""
        module, attribute = self._owner
        chain: Any = module.parametrizations
        return len(self._shape) == 1 and len(chain[attribute]) == 1

    def forward(self, tensor: Tensor) -> Tensor:
        """The gated tensor, of the same shape."""
        if self.done is not None:
            return self.done.to(tensor.dtype)
        (gates,) = self._gates
        factor = self.factor if self.factor is not None else gates.factors(self.index)[self.before]
        return tensor * factor.to(tensor.dtype).view(self._shape)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "done": None, "factor": None}


def gate(
    model: nn.Module,
    graph: ChannelGraph,
    gates: Gates,
    after: Iterable[MaskPoint],
    before: Iterable[MaskPoint] = (),
    root: NDArray[np.int64] | None = None,
) -> None:
    """Put gates into a network, in place.

    Args:
        model: a copy of the dense network of `graph`. gates: its gates.
        after: places where zero stays zero. before: places in front of norms, see `Gates.acts`.
        root: class of each label, if not the graph's.
    """
    places = [(point, False) for point in after] + [(point, True) for point in before]
    gates.two_places = bool(list(before))
    owners, parts = _owners(model), list[Gated]()
    root, registry = graph.classes.root if root is None else root, graph.facts.registry
    for point, is_before in places:
        start = registry.start(point.name, point.dim)
        for module, attribute in owners[point.name]:
            tensor = getattr(module, attribute)
            index = gates.unit_of[torch.from_numpy(root[start : start + tensor.shape[point.dim]])]
            part = Gated(gates, index, point.dim, tensor.dim(), is_before, (module, attribute))
            parametrize.register_parametrization(module, attribute, part)
            parts.append(part)
    gates.lay_out(parts)
    model.add_module(HOME, gates)
    model.register_forward_pre_hook(gates._open)
    model.register_forward_hook(gates._close, always_call=True)


def _owners(model: nn.Module) -> dict[str, list[tuple[nn.Module, str]]]:
    """Every name of every parameter, with all modules that hold it."""
    by_id: dict[int, list[tuple[nn.Module, str]]] = {}
    names: dict[str, int] = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        for attribute, tensor in module._parameters.items():
            if tensor is not None:
                names[f"{prefix}.{attribute}" if prefix else attribute] = id(tensor)
                held = by_id.setdefault(id(tensor), [])
                if (module, attribute) not in held:
                    held.append((module, attribute))
    return {name: by_id[key] for name, key in names.items()}


def gates_of(model: nn.Module) -> Gates:
    """The gates of a gated network."""
    found = model.get_submodule(HOME)
    assert isinstance(found, Gates)
    return found


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of a gated network without its gates, under the dense network's own names."""
    out = {}
    for name, tensor in model.state_dict().items():
        if name.startswith(f"{HOME}."):
            continue
        path, found, rest = name.partition("parametrizations.")
        if not found:
            out[name] = tensor
        elif rest.endswith(".original"):
            out[path + rest.removesuffix(".original")] = tensor
    return out
