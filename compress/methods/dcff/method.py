"""DCFF: dynamic-coded filter fusion. No pretrained model, no sparsity term, nothing lost at the end.

Lin et al., "Training Compact CNNs for Image Classification using Dynamic-coded Filter Fusion", TPAMI 2023,
https://doi.org/10.1109/TPAMI.2023.3259402. The network is cut to its target widths first; then every narrow
filter is a fusion `W~ = P~ W` of all `c` filters of its layer, as a parametrization of the layer's weight.
Once an epoch the proxies `P~` are coded anew from the distances between the filters.
"""

from __future__ import annotations

import copy
import math
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from compress.graph import ChannelGraph, SlicePlan
from compress.methods.base import Method, MethodConfig, Prepared, register
from compress.methods.dcff.fusion import FusedLayer, fold, fuse, fused_layers, rows
from compress.slicing import slice_model


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

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.t_end < self.t_start:
            raise ValueError(f"t_end {self.t_end:g} must not be below t_start {self.t_start:g}")
        return self


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
    square = torch.linalg.vector_norm(x, dim=1, dtype=torch.float64).square_()
    scale = square[:, None] + square[None, :]
    return scale - (x @ x.T).double().mul_(2), scale


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

        Convolutions and linear layers are fused. Trained narrow as they are: depthwise and grouped ones,
        whose filters read different inputs, and weights that several modules share or that are not called
        ``weight``.
        """
        assert plan is not None
        narrow = slice_model(model, plan)
        fuse(narrow, dict(model.named_parameters(remove_duplicate=False)), plan, graph.mixing_weights())
        return Prepared(narrow, plan)

    def begin_epoch(self, model: nn.Module, epoch: int, epochs: int) -> None:
        """Code every layer's filters anew; a pure function of the weights, the same on every process."""
        self._temperature = temperature(epoch, epochs, self.config)
        self._newcomers = []
        frozen = self.config.freeze and self._temperature >= 0.99 * self.config.t_end
        for layer in fused_layers(model):
            self._recode(layer, frozen)

    @torch.no_grad()
    def _recode(self, layer: FusedLayer, frozen: bool) -> None:
        full, slots = layer.full.detach(), layer.slots
        if full.device.type == "mps":  # has no float64
            full, slots = full.cpu(), slots.cpu()
        p, importance = coding(rows(full), self._temperature)
        if not frozen:
            slots, new = choose(slots, importance, self.config.slots == "stable")
            self._newcomers.append(new)
        layer.set(p[slots], slots)

    def metrics(self) -> dict[str, float]:
        """Temperature and number of filters that were exchanged in this epoch."""
        new = int(torch.stack(self._newcomers).sum()) if self._newcomers else 0
        return {"dcff_temperature": self._temperature, "dcff_newcomers": float(new)}

    def finish(self, model: nn.Module) -> nn.Module:
        """Store `W~` as ordinary narrow weights and drop `W`."""
        return fold(copy.deepcopy(model))
