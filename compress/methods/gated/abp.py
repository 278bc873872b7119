"""ABP: adding before pruning. A layer of binary attention is trained with the network, then removed.

After Tian et al., TNNLS 2021 (adding before pruning: sparse filter fusion by auxiliary attention), of which
only the idea is public: scores that are binary in the forward pass, trained by a gradient estimator in the
one run that also trains the network, so that a closed channel can come back. Thresholds, estimator and budget
are this project's own; `faithful` is the form of the same authors' earlier public code (AAL). No accuracy
reported here is a reproduction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from compress.methods.base import METHODS, MethodConfig, Setup
from compress.methods.gated.base import GatedConfig, GatedMethod
from compress.methods.gated.gates import Gates, best_of, gates_of, layer_of
from compress.methods.gated.space import Space


class ABP(GatedConfig):
    """Settings of ABP.

    Attributes:
        score_lr: learning rate of the scores, as a share of the weights'. None: 0.03, or more in a
            training of fewer than 7,000 steps, in which scores could not move far enough otherwise.
        pressure: strength of the budget term `w log(max(cost, target) / target)`: the fraction of the way
            from open to closed that the term alone would move an average score during the search. It
            therefore has the same effect in a short training as in a long one, unlike a fixed w.
        noise: width of the range below 1 in which the scores start.
        faithful: the authors' earlier form: gates before the norms, scores from a normal distribution,
            `1[|v| >= 0.5]` in the forward pass and the identity in the backward pass. In the last epochs the
            masks move behind the norms, as the deployed network requires.
    """

    score_lr: float | None = Field(None, gt=0)
    pressure: float = Field(2.0, ge=0)
    noise: float = Field(0.01, ge=0, lt=0.5)
    faithful: bool = False


def sharpness(epoch: float, epochs: int) -> float:
    """Return lambda(e) = 1 / (1 + exp(-e'/10)) with e' = 200 e/E: from 1/2 to nearly 1."""
    return 1 / (1 + math.exp(-20 * epoch / epochs))


class _Attention(torch.autograd.Function):
    """`a = lambda m + (1 - lambda) v`; backward `dL/dv = 2 lambda dL/da` inside [0, 1], ends included."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, m: Tensor, sharp: Tensor) -> Tensor:
        ctx.save_for_backward(v, sharp)
        return sharp * m + (1 - sharp) * v

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        v, sharp = ctx.saved_tensors
        return 2 * sharp * grads[0] * ((v >= 0) & (v <= 1)), None, None


def attention(v: Tensor, m: Tensor, sharp: Tensor) -> Tensor:
    """Return the gates of scores `v`, with their estimated gradient.

    Args:
        v: scores `[units]`.
        m: binary scores `[units]`.
        sharp: lambda, a scalar tensor.
    """
    gates: Tensor = _Attention.apply(v, m, sharp)
    return gates


class AttentionGates(Gates):
    """One score per unit, kept in [0, 1]."""

    sharp: Tensor
    layer: Tensor

    def __init__(self, unit_of: NDArray[np.int64], groups: Sequence[NDArray[np.int64]], config: ABP) -> None:
        super().__init__(unit_of)
        self.register_buffer("layer", layer_of(self.count, groups), persistent=False)
        self.faithful = config.faithful
        start = torch.randn(self.count) if self.faithful else 1 - config.noise * torch.rand(self.count)
        self.score = nn.Parameter(start)
        self.register_buffer("sharp", torch.tensor(0.5))

    def relaxed(self) -> Tensor:
        """Return the gates of this step."""
        if self.faithful:
            return self.score + (self.binary() - self.score).detach()
        return attention(self.score, self.binary(), self.sharp)

    def straight(self) -> Tensor:
        """Return the binary gates with a gradient, for the budget."""
        if self.faithful:
            size = self.score.abs()
            return size + (self.binary() - size).detach()
        return attention(self.score, self.binary(), torch.ones_like(self.sharp))

    def binary(self) -> Tensor:
        """Return `1[v > 1/2]`, or `1[|v| >= 1/2]` if `faithful`; the best of every layer is always open."""
        v = self.score.detach()
        v = v.abs() if self.faithful else v
        is_open = v >= 0.5 if self.faithful else v > 0.5
        return torch.maximum(is_open.to(v.dtype), best_of(self.layer, v))

    @torch.no_grad()
    def step(self) -> None:
        """Clamp the scores to [0, 1] after the optimizer's step."""
        if not self.faithful:
            self.score.clamp_(0, 1)

    def acts(self, before: bool) -> Tensor:
        """Return 1 before the norms while searching and after them in the end (only with two places)."""
        return 1 - self.frozen if before else self.frozen


@METHODS.register("abp")
class ABPMethod(GatedMethod):
    """Train a layer of binary attention with the network, then remove it and the closed channels."""

    config_type: ClassVar[type[MethodConfig]] = ABP
    config: ABP

    def __init__(self, config: ABP, setup: Setup) -> None:
        def gates(space: Space) -> AttentionGates:
            return AttentionGates(space.unit_of, space.layers, config)

        super().__init__(config, setup, gates, two_places=config.faithful)
        self._weight: float | None = None

    def scores(self, gates: Gates) -> Tensor:
        """Return the scores."""
        assert isinstance(gates, AttentionGates)
        return gates.score.abs() if gates.faithful else gates.score

    def _score_lr(self) -> float:
        steps = self.setup.steps_per_epoch * self.setup.config.epochs
        return self.config.score_lr if self.config.score_lr is not None else max(0.03, min(1.0, 200 / steps))

    def _budget_weight(self, gates: AttentionGates) -> float:
        """Return the weight w that gives the budget term its pressure."""
        train = self.setup.config
        share = torch.log(self.cost_share(gates, gates.straight()))
        (slope,) = torch.autograd.grad(share, gates.score)
        steps = self.setup.steps_per_epoch * self.fixed_from(train.epochs)
        reach = steps * train.lr * self._score_lr() / 2 / (1 - train.momentum)
        return 0.5 * self.config.pressure / (reach * max(float(slope.mean()), 1e-12))

    def begin_epoch(self, model: nn.Module, epoch: int, epochs: int) -> None:
        """Sharpen the gates; in the last epochs they are fixed."""
        super().begin_epoch(model, epoch, epochs)
        gates = gates_of(model)
        assert isinstance(gates, AttentionGates)
        gates.sharp.fill_(1.0 if gates.is_frozen else sharpness(epoch, epochs))
        if self._searching and self._weight is None:
            self._weight = self._budget_weight(gates)

    def loss(
        self, model: nn.Module, inputs: Tensor, outputs: Any, targets: Tensor, criterion: nn.Module
    ) -> Tensor:
        """Return the criterion plus, while searching, the budget term."""
        loss = super().loss(model, inputs, outputs, targets, criterion)
        if not self._searching:
            return loss
        gates = gates_of(model)
        assert isinstance(gates, AttentionGates)
        assert self._weight is not None
        share = self.cost_share(gates, gates.straight())
        return loss + self._weight * torch.log(share.clamp(min=gates.budget_share) / gates.budget_share)

    def param_groups(self, model: nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Return the weights, and the scores with a smaller rate and no decay."""
        gates = gates_of(model)
        assert isinstance(gates, AttentionGates)
        weights = [p for p in model.parameters() if p.requires_grad and p is not gates.score]
        return [
            {"params": weights, "lr": lr, "weight_decay": weight_decay},
            {"params": [gates.score], "lr": lr * self._score_lr(), "weight_decay": 0.0},
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the gated method and the weight of the budget term."""
        return {**super().state_dict(), "weight": self._weight}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of the gated method and the weight of the budget term."""
        super().load_state_dict(state)
        self._weight = state["weight"]
