"""ABP: adding before pruning. An auxiliary layer of binary attention is trained with the network, then folded.

After Tian et al., TNNLS 2021 (adding before pruning: sparse filter fusion by auxiliary attention), of which
only the idea is public: scores that are binary in the forward pass, trained by a gradient estimator in the one
run that also trains the network, so that a closed channel can come back. Thresholds, estimator and budget are
ours; `faithful` is the form of the same authors' earlier public code (AAL). No accuracy here is a reproduction.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from ..graph import ChannelGraph
from ..graph.placement import Placement
from .base import register
from .gated import GatedConfig, GatedMethod
from .gates import Gates, gate, gates_of


class ABPConfig(GatedConfig):
    """Settings of ABP.

    Attributes:
        score_lr: learning rate of the scores, as a share of the weights'.
        budget_weight: w of the budget term `w log(max(cost, target) / target)`.
        noise: spread of the scores' start below 1.
        faithful: the authors' earlier form: gates before the norms, scores from a normal distribution,
            `1[|v| >= 0.5]` in the forward pass and the identity in the backward one. For the last epochs the
            masks move behind the norms, as the network that is deployed needs it.
    """

    score_lr: float = Field(0.03, gt=0)
    budget_weight: float = Field(1.0, ge=0)
    noise: float = Field(0.01, ge=0, lt=0.5)
    faithful: bool = False


def sharpness(epoch: float, epochs: int) -> float:
    """lambda(e) = 1 / (1 + exp(-e'/10)) with e' = 200 e/E: from 1/2 to nearly 1."""
    return 1 / (1 + math.exp(-20 * epoch / epochs))


class _Attention(torch.autograd.Function):
    """`a = lambda m + (1 - lambda) v`, `m = 1[v > 1/2]`; backward `2 lambda dL/da` inside [0, 1], ends included."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, sharp: Tensor) -> Tensor:
        ctx.save_for_backward(v, sharp)
        return sharp * (v > 0.5).to(v.dtype) + (1 - sharp) * v

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        v, sharp = ctx.saved_tensors
        return 2 * sharp * grads[0] * ((v >= 0) & (v <= 1)), None


def attention(v: Tensor, sharp: Tensor) -> Tensor:
    """The gate of scores `v` `[units]` at sharpness `sharp` (a scalar tensor), with its estimated gradient."""
    gates: Tensor = _Attention.apply(v, sharp)  # type: ignore[no-untyped-call]
    return gates


class AttentionGates(Gates):
    """One score a unit, kept in [0, 1]."""

    sharp: Tensor

    def __init__(self, unit_of: NDArray[np.int64], config: ABPConfig) -> None:
        super().__init__(unit_of)
        self.faithful = config.faithful
        start = torch.randn(self.count) if self.faithful else 1 - config.noise * torch.rand(self.count)
        self.score = nn.Parameter(start)
        self.register_buffer("sharp", torch.tensor(0.5))

    def relaxed(self) -> Tensor:
        """The gates of this step."""
        return self.straight() if self.faithful else attention(self.score, self.sharp)

    def straight(self) -> Tensor:
        """The binary gates with a gradient, for the budget."""
        if self.faithful:
            return self.score + (self.binary() - self.score).detach()
        return attention(self.score, torch.ones_like(self.sharp))

    def binary(self) -> Tensor:
        """`1[v > 1/2]`, or `1[|v| >= 1/2]` of the earlier form."""
        if self.faithful:
            return (self.score.detach().abs() >= 0.5).to(self.score.dtype)
        return (self.score.detach() > 0.5).to(self.score.dtype)

    @torch.no_grad()
    def step(self) -> None:
        """Bring the scores back into [0, 1] after the optimizer's step."""
        if not self.faithful:
            self.score.clamp_(0, 1)

    def acts(self, before: bool) -> Tensor:
        """Before the norms while searching, behind them in the end (only with two places)."""
        return 1 - self.frozen if before else self.frozen


@register("abp")
class ABP(GatedMethod):
    """Adding before pruning."""

    config_type = ABPConfig
    config: ABPConfig

    def make_gates(self, unit_of: NDArray[np.int64]) -> AttentionGates:
        """The auxiliary layer."""
        return AttentionGates(unit_of, self.config)

    def scores(self, gates: Gates) -> Tensor:
        """The scores themselves."""
        assert isinstance(gates, AttentionGates)
        return gates.score.abs() if gates.faithful else gates.score

    def place_gates(self, student: nn.Module, graph: ChannelGraph, place: Placement, gates: Gates) -> None:
        """On the norms' affine output; the earlier form has them in front of the norms too."""
        gate(student, graph, gates, place.after, place.before if self.config.faithful else ())

    def begin_epoch(self, model: nn.Module, epoch: int, epochs: int) -> None:
        """Sharpen the gates; in the last epochs they are final."""
        super().begin_epoch(model, epoch, epochs)
        gates = gates_of(model)
        assert isinstance(gates, AttentionGates)
        gates.sharp.fill_(1.0 if gates.is_frozen else sharpness(epoch, epochs))
        self._searching = not gates.is_frozen

    def loss(
        self, model: nn.Module, inputs: Tensor, outputs: Any, targets: Tensor, criterion: nn.Module
    ) -> Tensor:
        """The criterion, and while searching `w log(max(cost, target) / target)`."""
        loss = super().loss(model, inputs, outputs, targets, criterion)
        if not self._searching:
            return loss
        gates = gates_of(model)
        assert isinstance(gates, AttentionGates)
        share = self.cost_share(gates, gates.straight())
        return loss + self.config.budget_weight * torch.log(share.clamp(min=self.target) / self.target)

    def param_groups(self, model: nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """The weights, and the scores with a smaller rate and no decay."""
        gates = gates_of(model)
        assert isinstance(gates, AttentionGates)
        weights = [p for p in model.parameters() if p.requires_grad and p is not gates.score]
        return [
            {"params": weights, "lr": lr, "weight_decay": weight_decay},
            {"params": [gates.score], "lr": lr * self.config.score_lr, "weight_decay": 0.0},
        ]
