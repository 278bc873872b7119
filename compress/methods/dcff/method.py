"""DCFF: dynamic-coded filter fusion. It needs no pretrained model and no sparsity term in the loss.

Lin et al., "Training Compact CNNs for Image Classification using Dynamic-coded Filter Fusion", TPAMI 2023,
https://doi.org/10.1109/TPAMI.2023.3259402. The network is first cut to its target widths; then every filter
of the compact network is a fusion `W~ = P~ W` of all `c` filters of its dense layer, as a parametrization of
the layer's weight. The proxies `P~` are updated once an epoch from the distances between the filters.
"""

from __future__ import annotations

import copy
import math
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from compress.methods.base import METHODS, Method, MethodConfig, Setup
from compress.methods.dcff.fusion import fold, fuse, fused_layers, rows
from compress.slicing import slice_model


class DCFF(MethodConfig):
    """Settings of DCFF; the defaults are the paper's.

    Attributes:
        t_start: temperature at the first epoch (T_s).
        t_end: limit of the temperature (T_e).
        k: how fast the temperature rises.
        slots: ``stable``: a filter that remains selected keeps its output channel, a newly selected one takes
            a free channel; ``ranked``: channels follow the ranking of each epoch, as in the authors' code.
        freeze: stop selecting other filters once the temperature has reached 99% of its limit, as the
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


def temperature(epoch: int, epochs: int, config: DCFF) -> float:
    """Return T(e) of eq. 5, from `t_start` at epoch 0 to `t_end` at epoch `epochs`."""
    decay = math.exp(-config.k * epochs)
    a = 2 * (config.t_end - config.t_start) * (1 + decay) / (1 - decay)
    return a / (1 + math.exp(-config.k * epoch)) + config.t_start - a / 2


def filter_distances(filters: Tensor) -> Tensor:
    """Return Euclidean distances `[c, c]` between filters `[c, d]`, float64, exactly zero on the diagonal.

    Computed by one matrix product. Its float32 rounding matters only between nearly identical filters, where
    a temperature of 1e4 magnifies it: such layers, and all layers on a GPU, are computed in float64.
    """
    if filters.device.type == "cpu":
        squared, scale = _squared(filters.float())
        if not bool((squared < 1e-3 * scale).fill_diagonal_(False).any()):
            return squared.clamp_(min=0).fill_diagonal_(0).sqrt_()
    return _squared(filters.double())[0].clamp_(min=0).fill_diagonal_(0).sqrt_()


def _squared(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return squared distances `[c, c]` and the sums of squared norms they are differences of, float64."""
    square = torch.linalg.vector_norm(x, dim=1, dtype=torch.float64).square_()
    scale = square[:, None] + square[None, :]
    return scale - (x @ x.T).double().mul_(2), scale


def code_filters(filters: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """Return proxies and importances of a layer's filters (eqs. 3, 4 and 7).

    Args:
        filters: `[c, d]`.
        t: temperature.

    Returns:
        `P = softmax_row(-T D)` `[c, c]` and `I_i = sum_j KL(P_i || P_j)` `[c]`, both float64. With
        `log P` from `log_softmax` the divergence is finite at every temperature, and since the sum over j
        only needs the column sums of `log P`, no `[c, c, c]` tensor appears.
    """
    log_p = torch.log_softmax(filter_distances(filters).mul_(-t), dim=1)
    p = log_p.exp()
    importance = filters.shape[0] * (p * log_p).sum(1) - p @ log_p.sum(0)
    return p, importance


def select_filters(slots: Tensor, importance: Tensor, stable: bool) -> tuple[Tensor, Tensor]:
    """Return the most important filters in their slots `[c~]`, and how many of them are new.

    Args:
        slots: filter in each slot so far `[c~]`.
        importance: of each filter `[c]`.
        stable: see `DCFF.slots`.
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


@torch.no_grad()
def update_proxies(model: nn.Module, t: float, *, stable: bool = True, frozen: bool = False) -> list[Tensor]:
    """Compute the proxies of every fused layer from its filters at temperature `t`.

    Args:
        model: a network with fused layers.
        t: temperature.
        stable: see `DCFF.slots`.
        frozen: keep the selected filters.

    Returns:
        How many filters were newly selected, for each layer; empty if frozen.
    """
    newly_selected = []
    for layer in fused_layers(model):
        full, slots = layer.full.detach(), layer.slots
        if full.device.type == "mps":  # has no float64
            full, slots = full.cpu(), slots.cpu()
        p, importance = code_filters(rows(full), t)
        if not frozen:
            slots, new = select_filters(slots, importance, stable)
            newly_selected.append(new)
        layer.set(p[slots], slots)
    return newly_selected


@METHODS.register("dcff")
class DCFFMethod(Method):
    """Train the compact network on fused filters of the dense one.

    Convolutions and linear layers are fused. The others are trained at their compact width: depthwise and
    grouped convolutions, whose filters read different inputs, and weights that several modules share or that
    are not called ``weight``.
    """

    config_type: ClassVar[type[MethodConfig]] = DCFF
    config: DCFF

    def __init__(self, config: DCFF, setup: Setup) -> None:
        plan = setup.required_plan
        compact = slice_model(setup.model, plan)
        dense = dict(setup.model.named_parameters(remove_duplicate=False))
        fuse(compact, dense, plan, setup.graph.mixing_weights())
        super().__init__(config, setup, compact)
        self._temperature = config.t_start
        self._newly_selected: list[Tensor] = []

    def begin_epoch(self, model: nn.Module, epoch: int, epochs: int) -> None:
        """Update every layer's proxies; a pure function of the weights, the same on every process."""
        self._temperature = temperature(epoch, epochs, self.config)
        frozen = self.config.freeze and self._temperature >= 0.99 * self.config.t_end
        stable = self.config.slots == "stable"
        self._newly_selected = update_proxies(model, self._temperature, stable=stable, frozen=frozen)

    def metrics(self) -> dict[str, float]:
        """Return the temperature and the number of filters exchanged in this epoch."""
        new = int(torch.stack(self._newly_selected).sum()) if self._newly_selected else 0
        return {"dcff_temperature": self._temperature, "dcff_newcomers": float(new)}

    def finish(self, model: nn.Module) -> nn.Module:
        """Return a copy with `W~` as ordinary weights and without `W`."""
        return fold(copy.deepcopy(model))
