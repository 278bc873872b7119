"""Fused filters: a compact layer whose weight is a mixture of the dense layer's filters, which are trained.

A parametrization of the layer (`torch.nn.utils.parametrize`): the module's class, name and forward code
are unchanged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compress.graph import SlicePlan


def rows(filters: Tensor) -> Tensor:
    """Return filters `[c, ...]` as rows `[c, d]`: a view of them in either memory format."""
    return _last(filters).flatten(1) if _is_last(filters) else filters.flatten(1)


def _is_last(filters: Tensor) -> bool:
    return filters.dim() == 4 and not filters.is_contiguous() and _last(filters).is_contiguous()


def _last(filters: Tensor) -> Tensor:
    return filters.permute(0, 2, 3, 1)


class FusedFilters(nn.Module):
    """The parametrization `W~ = P~ W`: all `c` filters in, `c~` fused filters out.

    Args:
        full: the layer's `c` filters `[c, ...]` on the compact inputs.
        kept: the filters that form the first proxies, `[c~]`.
    """

    proxies: Tensor
    slots: Tensor

    def __init__(self, full: Tensor, kept: Tensor) -> None:
        super().__init__()
        self._full: Tensor | None = full
        self.register_buffer("proxies", torch.eye(full.shape[0], dtype=full.dtype, device=full.device)[kept])
        self.register_buffer("slots", kept.clone())

    def forward(self, full: Tensor) -> Tensor:
        """Fuse `[c, ...]` to `[c~, ...]`, in the parameters' own precision and memory format."""
        with torch.autocast(full.device.type, enabled=False):
            fused = self.proxies @ rows(full)
        if _is_last(full):
            return fused.view(-1, *_last(full).shape[1:]).permute(0, 3, 1, 2)
        return fused.view(-1, *full.shape[1:])

    def right_inverse(self, compact: Tensor) -> Tensor:
        """Return the filters, which become the parameter that is trained."""
        assert self._full is not None
        full, self._full = self._full.to(compact), None
        return full


class FusedBias(FusedFilters):
    """The same for a bias `[c]`."""

    def forward(self, full: Tensor) -> Tensor:
        """Fuse `[c]` to `[c~]`."""
        with torch.autocast(full.device.type, enabled=False):
            return self.proxies @ full


@dataclass(frozen=True)
class FusedLayer:
    """A layer with fused filters.

    Attributes:
        module: the layer.
        parts: the parametrizations of its weight and, if it has one, of its bias.
    """

    module: nn.Module
    parts: tuple[FusedFilters, ...]

    @property
    def full(self) -> Tensor:
        """All filters `[c, ...]`, the parameter that is trained."""
        chain: Any = self.module.parametrizations
        original: Tensor = chain.weight.original
        return original

    @property
    def slots(self) -> Tensor:
        """The filter that each output channel follows, `[c~]`."""
        return self.parts[0].slots

    @torch.no_grad()
    def set(self, proxies: Tensor, slots: Tensor) -> None:
        """Set the proxies `[c~, c]` and the filters `slots` `[c~]` that they follow."""
        for part in self.parts:
            part.proxies.copy_(proxies)
            part.slots.copy_(slots)


def fuse(compact: nn.Module, dense: Mapping[str, Tensor], plan: SlicePlan, weights: Iterable[str]) -> None:
    """Give layers of a compact network all filters of the dense one, on their compact inputs.

    A weight that several modules share, or that is not called ``weight``, is left as it is.

    Args:
        compact: the network, changed in place.
        dense: parameters of the dense network by name.
        plan: what `compact` keeps of it.
        weights: names of the weights that may be fused.
    """
    owners = Counter(id(p) for m in compact.modules() for p in m._parameters.values())
    for name in weights:
        path, _, attribute = name.rpartition(".")
        module, kept = compact.get_submodule(path), plan.kept.get(name, {})
        weight = module._parameters.get(attribute)
        if attribute == "weight" and 0 in kept and weight is not None and owners[id(weight)] == 1:
            _fuse(module, dense[name].detach(), dense.get(name.removesuffix("weight") + "bias"), kept)


def _fuse(module: nn.Module, full: Tensor, bias: Tensor | None, kept: Mapping[int, list[Any]]) -> None:
    index = torch.tensor(kept[0], device=full.device)
    if 1 in kept:
        full = full.index_select(1, torch.tensor(kept[1], device=full.device))
    parametrize.register_parametrization(module, "weight", FusedFilters(full.clone(), index))
    if bias is not None and module._parameters.get("bias") is not None:
        parametrize.register_parametrization(module, "bias", FusedBias(bias.detach().clone(), index))


def fused_layers(model: nn.Module) -> Iterator[FusedLayer]:
    """Yield every layer with fused filters, in the order of the modules."""
    for module in model.modules():
        if parametrize.is_parametrized(module, "weight"):
            chain: Any = module.parametrizations
            parts = tuple(chain[name][0] for name in chain if isinstance(chain[name][0], FusedFilters))
            if parts:
                yield FusedLayer(module, parts)


def fold(model: nn.Module) -> nn.Module:
    """Store the fused filters as ordinary parameters, in place, and drop the full ones."""
    for layer in list(fused_layers(model)):
        _fold(layer.module)
    return model


def _fold(layer: nn.Module) -> None:
    """Make the fused tensors ordinary parameters.

    `remove_parametrizations` is not used: it removes the property from the layer's class, which copies share.
    """
    chain: Any = layer.parametrizations
    trained = {name: chain[name].original.requires_grad for name in chain}
    tensors = {name: getattr(layer, name).detach().clone() for name in chain}
    layer.__class__ = parametrize.type_before_parametrizations(layer)
    del layer.parametrizations
    for name, tensor in tensors.items():
        layer.register_parameter(name, nn.Parameter(tensor, requires_grad=trained[name]))
