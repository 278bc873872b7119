"""KDFS: a knowledge-driven differential filter sampler; a trained teacher guides which filters are kept.

Lin et al., "Filter Pruning for Efficient CNNs via Knowledge-driven Differential Filter Sampler",
https://arxiv.org/abs/2307.00198. Every filter has two logits; its mask is a Gumbel-softmax sample with a
straight-through gradient. Masked filter modelling (the student's features, decoded, against the teacher's at
the ends of the stages), dark knowledge and a global budget guide the sampling; then the masks are fixed and
the network is fine-tuned. The masks act on the norms' affine output and not, as in the published code, before
the norms: there a dropped filter still outputs the norm's bias, and the sliced network would compute
something else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Adamax, Optimizer

from compress.graph.stages import stage_ends
from compress.methods.base import METHODS, MethodConfig, Setup
from compress.methods.gated.base import GatedConfig, GatedMethod
from compress.methods.gated.gates import Gates, best_of, gates_of, layer_of
from compress.methods.gated.space import Space
from compress.methods.gated.taps import Taps
from compress.training.config import TrainConfig


class KDFS(GatedConfig):
    """Settings of KDFS.

    The losses, their weights and the temperatures are the paper's for CIFAR-10. The paper starts from random
    masks with the full budget term and needs 350 epochs to recover; here the filters start open and the
    budget falls gradually to its target, so that few epochs suffice. `start=0 spread=1 ramp=0` are the
    paper's values.

    Attributes:
        fixed_share: share of the epochs for fine-tuning with fixed masks (the paper: 50 of 400).
        dense_share: share of the epochs in which the teacher is trained first, if neither it nor weights are
            given.
        residual: see `GatedConfig`; ``scatter`` is the paper's.
        start: initial difference between the logits of open and closed.
        spread: standard deviation of the initial noise of the logits.
        sampler_rate: learning rate of the logits, as a multiple of the weights'. None: 1, or more in a
            search that is too short for logits to move from open to closed and back.
        tau_start: temperature of the sampler at the first epoch of the search.
        tau_end: temperature of the sampler after the last epoch of the search.
        kd: weight of the dark knowledge loss.
        kd_temperature: temperature of the dark knowledge.
        mfm: weight of the masked filter modelling loss.
        budget: weight of the budget loss.
    """

    fixed_share: float = Field(0.5, gt=0, lt=1)
    dense_share: float = Field(0.5, gt=0, lt=1)
    start: float = Field(3.0, ge=0)
    spread: float = Field(0.1, ge=0)
    sampler_rate: float | None = Field(None, gt=0)
    tau_start: float = Field(1.0, gt=0)
    tau_end: float = Field(0.1, gt=0)
    kd: float = Field(0.05, ge=0)
    kd_temperature: float = Field(3.0, gt=0)
    mfm: float = Field(1000.0, ge=0)
    budget: float = Field(10000.0, ge=0)


def temperature(epoch: int, epochs: int, config: KDFS) -> float:
    """Return tau(e) = tau_0 (tau_1 / tau_0)^(e/E)."""
    return float(config.tau_start * (config.tau_end / config.tau_start) ** (epoch / epochs))


def straight_through(logits: Tensor, noise: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
    """Return hard samples and the soft ones that give their gradient `[units]`.

    Args:
        logits: of closed and open `[units, 2]`.
        noise: Gumbel noise `[units, 2]`.
        tau: temperature.
    """
    soft = torch.softmax((logits + noise) / tau, dim=1)
    return (soft[:, 1] >= soft[:, 0]).to(soft.dtype), soft[:, 1]


class _MeanSquare(torch.autograd.Function):
    """Mean over channels of the squares of `[B, C, H, W]`, float32: one pass forward, one backward."""

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        ctx.save_for_backward(features)
        norm: Tensor = torch.linalg.vector_norm(features, dim=1, dtype=_wide(features))
        return norm.square_().div_(features.shape[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (features,) = ctx.saved_tensors
        grad: Tensor = (grads[0] * (2 / features.shape[1])).unsqueeze(1) * features
        return grad.to(features.dtype)


def _wide(features: Tensor) -> torch.dtype:
    return torch.promote_types(features.dtype, torch.float32)


def attention_map(features: Tensor) -> Tensor:
    """Return Q(F): mean over channels of the squares of `[B, C, H, W]`, flattened, with norm 1 per image."""
    energy: Tensor = _MeanSquare.apply(features)
    return F.normalize(energy.flatten(1), dim=1)


def decode(decoder: nn.Module, features: Tensor) -> Tensor:
    """Apply a 1x1 convolution to `[B, C, H, W]`; one matrix product where channels are last in memory."""
    assert isinstance(decoder, nn.Conv2d)
    rows = features.permute(0, 2, 3, 1)
    if not rows.is_contiguous():
        decoded: Tensor = decoder(features)
        return decoded
    return F.linear(rows, decoder.weight.flatten(1), decoder.bias).permute(0, 3, 1, 2)


def modelling_loss(decoded: list[Tensor], teacher: list[Tensor]) -> Tensor:
    """Return the mean over the stages of the mean squared difference of the attention maps."""
    parts = [
        (attention_map(s) - attention_map(t)).square().mean() for s, t in zip(decoded, teacher, strict=True)
    ]
    return torch.stack(parts).mean()


def dark_knowledge_loss(student: Tensor, teacher: Tensor, tau: float) -> Tensor:
    """Return tau^2 KL(softmax(z_t / tau) || softmax(z_s / tau)), mean over the batch."""
    kl = F.kl_div(
        F.log_softmax(student.float() / tau, 1),
        F.log_softmax(teacher.float() / tau, 1),
        log_target=True,
        reduction="batchmean",
    )
    return kl * tau**2


class SamplerGates(Gates):
    """Two logits per unit, closed and open; a sample of them is the mask."""

    noise: Tensor
    tau: Tensor
    layer: Tensor

    def __init__(
        self,
        unit_of: NDArray[np.int64],
        groups: Sequence[NDArray[np.int64]],
        start: float = 0.0,
        spread: float = 1.0,
    ) -> None:
        super().__init__(unit_of)
        noise = spread * torch.randn(self.count, 2)  # spread 1: Kaiming-normal for a fan-in of 2
        self.logits = nn.Parameter(noise + torch.tensor([0.0, start]))
        self.register_buffer("layer", layer_of(self.count, groups), persistent=False)
        self.register_buffer("noise", torch.zeros(self.count, 2), persistent=False)
        self.register_buffer("tau", torch.ones(()))
        self._generator: torch.Generator | None = None

    def seed(self) -> None:
        """Draw the seed of an epoch's samples from torch's generator, which is the same on every process."""
        self._generator = torch.Generator(self.logits.device)
        self._generator.manual_seed(int(torch.randint(2**62, ())))

    @torch.no_grad()
    def step(self) -> None:
        """Draw new Gumbel noise."""
        uniform = torch.rand(self.noise.shape, generator=self._generator, device=self.noise.device)
        self.noise.copy_(-torch.log(-torch.log(uniform.clamp(1e-10, 1 - 1e-7))))

    def relaxed(self) -> Tensor:
        """Return the sample with a straight-through gradient; the best of every layer is always open."""
        hard, soft = straight_through(self.logits, self.noise, self.tau)
        return torch.maximum(hard, self._best()) + (soft - soft.detach())

    def binary(self) -> Tensor:
        """Return the `argmax` of the logits."""
        margin = self.margin()
        return torch.maximum((margin >= 0).to(margin.dtype), self._best())

    def margin(self) -> Tensor:
        """Return the difference of the logits of open and closed `[units]`."""
        logits = self.logits.detach()
        return logits[:, 1] - logits[:, 0]

    def _best(self) -> Tensor:
        return best_of(self.layer, self.margin())

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_generator": None}


@METHODS.register("kdfs")
class KDFSMethod(GatedMethod):
    """Sample masks under a teacher's guidance, then fine-tune with fixed masks."""

    config_type: ClassVar[type[MethodConfig]] = KDFS
    starts_from_dense: ClassVar[bool] = True
    uses_teacher: ClassVar[bool] = True
    training_defaults: ClassVar[Mapping[str, Any]] = {
        "optimizer": "adamax",
        "lr": 0.01,
        "weight_decay": 1e-4,
    }
    config: KDFS

    def __init__(self, config: KDFS, setup: Setup) -> None:
        def gates(space: Space) -> SamplerGates:
            return SamplerGates(space.unit_of, space.layers, config.start, config.spread)

        super().__init__(config, setup, gates)
        ends = stage_ends(setup.graph)
        self.teacher = setup.required_teacher.eval().requires_grad_(False)
        self._teacher_taps = Taps(self.teacher, ends, training_only=False)
        self._student_taps = Taps(self.model, ends, training_only=True)
        self._decoders = nn.ModuleList(nn.Conv2d(end.channels, end.channels, 1) for end in ends)
        self._part: Tensor | None = None
        self._sum: Tensor | None = None
        self._count = 0

    def scores(self, gates: Gates) -> Tensor:
        """Return the margins of the logits."""
        assert isinstance(gates, SamplerGates)
        return gates.margin()

    def build_optimizers(self, model: nn.Module, config: TrainConfig) -> list[Optimizer] | None:
        """Return two Adamax optimizers: of the weights and decoders with decay, of the logits without."""
        gates = gates_of(model)
        assert isinstance(gates, SamplerGates)
        device = gates.logits.device
        self.teacher.to(device)
        self._decoders.to(device)
        weights = [p for p in model.parameters() if p.requires_grad and p is not gates.logits]
        trained = [*weights, *self._decoders.parameters()]
        return [
            Adamax(trained, lr=config.lr, eps=1e-7, weight_decay=config.weight_decay),
            Adamax([gates.logits], lr=config.lr * self._sampler_rate(), eps=1e-7),
        ]

    def _sampler_rate(self) -> float:
        """Return the relative learning rate: Adamax moves a logit by about the rate at each step."""
        if self.config.sampler_rate is not None:
            return self.config.sampler_rate
        steps = self.setup.steps_per_epoch * self.fixed_from(self.setup.config.epochs)
        return max(1.0, 4 * max(self.config.start, 1.0) / (steps * self.setup.config.lr))

    def begin_epoch(self, model: nn.Module, epoch: int, epochs: int) -> None:
        """Lower the temperature and seed the samples; in the last epochs the masks are fixed."""
        super().begin_epoch(model, epoch, epochs)
        gates = gates_of(model)
        assert isinstance(gates, SamplerGates)
        gates.seed()
        search = self.fixed_from(epochs)
        gates.tau.fill_(temperature(min(epoch, search), search, self.config))
        self._student_taps.on = self._teacher_taps.on = self._searching and self.config.mfm > 0
        self._part = self._sum = None
        self._count = 0

    def loss(
        self, model: nn.Module, inputs: Tensor, outputs: Any, targets: Tensor, criterion: nn.Module
    ) -> Tensor:
        """Return CE + 0.05 L_kd + 1000 L_mfm + 10000 R while searching, the criterion alone afterwards."""
        loss = super().loss(model, inputs, outputs, targets, criterion)
        if not self._searching:
            return loss
        with torch.no_grad():
            teacher_outputs = self.teacher(inputs)
        kd = dark_knowledge_loss(outputs, teacher_outputs, self.config.kd_temperature)
        budget, mfm = self._budget(model), torch.zeros_like(kd)
        student, teacher = self._student_taps.take(), self._teacher_taps.take()
        if student:
            decoded = [
                decode(decoder, features) for decoder, features in zip(self._decoders, student, strict=True)
            ]
            mfm = modelling_loss(decoded, teacher)
        parts = [loss, self.config.kd * kd, self.config.mfm * mfm, self.config.budget * budget]
        weighted = torch.stack(parts)
        self._part = weighted.detach()
        return weighted.sum()

    @torch.no_grad()
    def end_step(self, model: nn.Module) -> None:
        """Add up the parts of the loss."""
        if self._part is not None:
            self._sum = self._part.clone() if self._sum is None else self._sum.add_(self._part)
            self._count, self._part = self._count + 1, None

    def _budget(self, model: nn.Module) -> Tensor:
        """Return R = (cost(M) / cost_dense - p)^2, for this step's sample; p falls along the ramp."""
        gates = gates_of(model)
        assert isinstance(gates, SamplerGates)
        return (self.cost_share(gates, gates.learned()) - gates.budget_share).square()

    def metrics(self) -> dict[str, float]:
        """Return those of every gated method, and while searching the mean of each part of the loss."""
        out = {**super().metrics(), "kdfs_fixed": float(not self._searching)}
        if self._sum is not None:
            means = (self._sum / self._count).tolist()
            names = ("kdfs_loss_ce", "kdfs_loss_kd", "kdfs_loss_mfm", "kdfs_loss_budget")
            out.update(zip(names, means, strict=True))
        return out

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the gated method and the decoders."""
        return {**super().state_dict(), "decoders": self._decoders.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of the gated method and the decoders."""
        super().load_state_dict(state)
        self._decoders.load_state_dict(state["decoders"])
