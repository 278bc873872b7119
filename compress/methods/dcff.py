"""DCFF: dynamic-coded filter fusion. No pretrained model, no sparsity term, nothing lost at the end.

Lin et al., "Training Compact CNNs for Image Classification using Dynamic-coded Filter Fusion", TPAMI 2023,
https://doi.org/10.1109/TPAMI.2023.3259402. The network is cut to its target widths first; then every narrow
filter is a fusion `W~ = P~ W` of all `c` filters of its layer, as a parametrization of the layer's weight.
Once an epoch the proxies `P~` are coded anew from the distances between the filters.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..graph import ChannelGraph, SlicePlan
from ..slicing import slice_model
from .base import Method, MethodConfig, Prepared, register


class DCFFConfig(MethodConfig):
    """Settings of DCFF; the defaults are the paper's.

    Attributes:
        t_start, t_end: temperature at the first epoch and its limit (T_s and T_e). k: how fast it rises.
        slots: ``stable``: a filter that stays keeps its output channel, a newcomer takes a freed one;
            ``ranked``: channels follow the ranking of each epoch, as in the authors' code.
        freeze: stop choosing other filters once the temperature has reached 99% of its limit, as the
            authors' code does in effect.
    """

    t_start: float = Field(1.0, gt=0)
    t_end: float = Field(1e4, gt=0)
    k: float = Field(1.0, gt=0)
    slots: Literal["stable", "ranked"] = "stable"
    freeze: bool = False


def temperature(epoch: int, epochs: int, config: DCFFConfig) -> float:
    """T(e) of eq. 5, from `t_start` at epoch 0 to `t_end` at epoch `epochs`."""
    decay = math.exp(-config.k * epochs)
    a = 2 * (config.t_end - config.t_start) * (1 + decay) / (1 - decay)
    return a / (1 + math.exp(-config.k * epoch)) + config.t_start - a / 2


def distances(filters: Tensor) -> Tensor:
    """Euclidean distances `[c, c]` between filters `[c, d]`, float64, exactly zero on the diagonal.

    One matrix product. Its float32 rounding matters only between filters that are nearly the same (a
    temperature of 1e4 then magnifies it): such layers, and all on a GPU, are computed in float64.
    """
    if filters.device.type == "cpu":
        squared, scale = _squared(filters.float())
        if not bool((squared < 1e-3 * scale).fill_diagonal_(False).any()):
            return squared.clamp_(min=0).fill_diagonal_(0).sqrt_()
    return _squared(filters.double())[0].clamp_(min=0).fill_diagonal_(0).sqrt_()


def _squared(x: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances `[c, c]` and the sums of squared norms they are differences of, float64."""
    square = (x * x).sum(1, dtype=torch.float64)
    scale = square[:, None] + square[None, :]
    return scale - 2 * (x @ x.T).double(), scale


def coding(filters: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """Proxies and importances of a layer's filters (eqs. 3, 4 and 7).

    Args:
        filters: `[c, d]`. t: temperature.

    Returns:
        `P = softmax_row(-T D)` `[c, c]` and `I_i = sum_j KL(P_i || P_j)` `[c]`, both float64. With
        `log P` from `log_softmax` the divergence is finite at every temperature, and since the sum over j
        only needs the column sums of `log P`, no `[c, c, c]` tensor appears.
    """
    log_p = torch.log_softmax(distances(filters).mul_(-t), dim=1)
    p = log_p.exp()
    importance = filters.shape[0] * (p * log_p).sum(1) - p @ log_p.sum(0)
    return p, importance


class FusedFilters(nn.Module):
    """The parametrization `W~ = P~ W`: all `c` filters in, `c~` fused filters out.

    Args:
        full: the layer's `c` filters `[c, ...]` on the narrow inputs.
        kept: the filters that make the first proxies, `[c~]`.
    """

    proxies: Tensor
    slots: Tensor

    def __init__(self, full: Tensor, kept: Tensor) -> None:
        super().__init__()
        self._full: Tensor | None = full
        identity = torch.zeros(kept.numel(), full.shape[0], dtype=full.dtype, device=full.device)
        self.register_buffer("proxies", identity.index_put((torch.arange(kept.numel()), kept), torch.ones(())))
        self.register_buffer("slots", kept.clone())

    def forward(self, full: Tensor) -> Tensor:
        """Fuse `[c, ...]` to `[c~, ...]`, in the parameters' own precision."""
        with torch.autocast(full.device.type, enabled=False):
            return (self.proxies @ full.flatten(1)).view(-1, *full.shape[1:])

    def right_inverse(self, narrow: Tensor) -> Tensor:
        """The filters themselves become the parameter that is trained."""
        assert self._full is not None
        full, self._full = self._full.to(narrow), None
        return full


class FusedBias(FusedFilters):
    """The same for a bias `[c]`."""

    def forward(self, full: Tensor) -> Tensor:
        """Fuse `[c]` to `[c~]`."""
        with torch.autocast(full.device.type, enabled=False):
            return self.proxies @ full


def choose(slots: Tensor, importance: Tensor, stable: bool) -> tuple[Tensor, Tensor]:
    """The most important filters in their slots, and how many of them are new.

    Args:
        slots: filter in each slot so far `[c~]`. importance: `[c]`. stable: see `DCFFConfig.slots`.
    """
    best = torch.topk(importance, slots.numel()).indices
    was = torch.zeros_like(importance, dtype=torch.bool).index_fill_(0, slots, True)
    new = ~was[best]
    if not stable:
        return best, new.sum()
    stays = torch.zeros_like(was).index_fill_(0, best, True)[slots]
    newcomers = best[torch.argsort(new, descending=True, stable=True)]
    rank = torch.cumsum(~stays, 0) - 1
    return torch.where(stays, slots, newcomers[rank.clamp(min=0)]), new.sum()


@register("dcff")
class DCFF(Method):
    """Dynamic-coded filter fusion."""

    config_type = DCFFConfig
    config: DCFFConfig

    def __init__(self, config: DCFFConfig) -> None:
        super().__init__(config)
        self._temperature = config.t_start
        self._newcomers: list[Tensor] = []

    def prepare(self, model: nn.Module, graph: ChannelGraph, plan: SlicePlan | None) -> Prepared:
        """Cut the network, then give every cut layer its full set of filters back, on narrow inputs.

        Convolutions and linear layers are fused; depthwise and grouped ones, whose filters read different
        inputs, are trained narrow as they are.
        """
        assert plan is not None
        narrow = slice_model(model, plan)
        dense = dict(model.named_parameters(remove_duplicate=False))
        for name in graph.mixing_weights():
            kept = plan.kept.get(name, {})
            module = narrow.get_submodule(name.rpartition(".")[0])
            if 0 in kept and not parametrize.is_parametrized(module):
                _fuse(module, name, dense, kept)
        return Prepared(narrow, plan)

    def begin_epoch(self, model: nn.Module, epoch: int, epochs: int) -> None:
        """Code every layer's filters anew; a pure function of the weights, the same on every process."""
        self._temperature = temperature(epoch, epochs, self.config)
        self._newcomers = []
        frozen = self.config.freeze and self._temperature >= 0.99 * self.config.t_end
        for weight, bias in fused_layers(model):
            self._recode(weight, bias, frozen)

    @torch.no_grad()
    def _recode(self, layer: nn.Module, bias: FusedFilters | None, frozen: bool) -> None:
        full, fused = _original(layer), _fused(layer, "weight")
        p, importance = coding(full.flatten(1), self._temperature)
        if not frozen:
            slots, new = choose(fused.slots, importance, self.config.slots == "stable")
            fused.slots.copy_(slots)
            self._newcomers.append(new)
        fused.proxies.copy_(p[fused.slots])
        if bias is not None:
            bias.slots.copy_(fused.slots)
            bias.proxies.copy_(fused.proxies)

    def metrics(self) -> dict[str, float]:
        """Temperature and number of filters that were exchanged in this epoch."""
        new = int(torch.stack(self._newcomers).sum()) if self._newcomers else 0
        return {"dcff_temperature": self._temperature, "dcff_newcomers": float(new)}

    def finish(self, model: nn.Module) -> nn.Module:
        """Store `W~` as ordinary narrow weights and drop `W`."""
        model = copy.deepcopy(model)
        for layer, _ in list(fused_layers(model)):
            _fold(layer)
        return model


def _fold(layer: nn.Module) -> None:
    """Make the fused tensors ordinary parameters.

    By hand: `remove_parametrizations` takes the property off the layer's class, which copies share.
    """
    chain: Any = layer.parametrizations
    tensors = {name: getattr(layer, name).detach().clone() for name in chain}
    layer.__class__ = parametrize.type_before_parametrizations(layer)
    del layer.parametrizations
    for name, tensor in tensors.items():
        layer.register_parameter(name, nn.Parameter(tensor))


def _fuse(module: nn.Module, name: str, dense: dict[str, Tensor], kept: dict[int, list[Any]]) -> None:
    rows = torch.tensor(kept[0])
    full = dense[name].detach()
    if 1 in kept:
        full = full.index_select(1, torch.tensor(kept[1]))
    parametrize.register_parametrization(module, "weight", FusedFilters(full.clone(), rows))
    bias = dense.get(name.removesuffix("weight") + "bias")
    if bias is not None:
        parametrize.register_parametrization(module, "bias", FusedBias(bias.detach().clone(), rows))


def fused_layers(model: nn.Module) -> Iterator[tuple[nn.Module, FusedFilters | None]]:
    """Every layer with fused filters, and the parametrization of its bias if that is fused too."""
    for module in model.modules():
        if parametrize.is_parametrized(module, "weight"):
            chain: Any = module.parametrizations
            if isinstance(chain.weight[0], FusedFilters):
                fused_bias = parametrize.is_parametrized(module, "bias") and isinstance(chain.bias[0], FusedBias)
                yield module, chain.bias[0] if fused_bias else None


def _fused(module: nn.Module, name: str) -> FusedFilters:
    chain: Any = module.parametrizations
    fused = chain[name][0]
    assert isinstance(fused, FusedFilters)
    return fused


def _original(module: nn.Module) -> Tensor:
    chain: Any = module.parametrizations
    original: Tensor = chain.weight.original
    return original
