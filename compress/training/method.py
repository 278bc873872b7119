"""Hooks of a method in the training loop, and ordinary training without a method."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from compress.training.config import TrainConfig


class TrainableMethod(Protocol):
    """The hooks that the loop calls, with the bare model, never a distributed wrapper.

    The hooks of a step must not make the host wait for the device: no ``.item()``, no copy to the CPU, no
    tensor made from Python numbers, no branch on the value of a tensor.

    `begin_epoch` and `end_epoch` run on every process and must have the same effect on each; the generators
    are seeded from (seed, epoch) before `begin_epoch`. `state_dict` holds tensors, numbers, strings, lists
    and dicts only.
    """

    def begin_epoch(self, model: nn.Module, epoch: int, epochs: int) -> None:
        """Run before the steps of `epoch` (from 0) of `epochs`."""

    def begin_step(self, model: nn.Module) -> None:
        """Run before every step of the epoch: draw its random numbers, set what changes with the steps."""

    def loss(
        self, model: nn.Module, inputs: Tensor, outputs: Any, targets: Tensor, criterion: nn.Module
    ) -> Tensor:
        """Return the scalar to minimize, for inputs `[B, C, H, W]` and targets `[B]`.

        It may be compiled: values that change from step to step must be in tensors, set by `begin_step`.
        """
        ...

    def end_step(self, model: nn.Module) -> None:
        """Run after every step: accumulate its numbers on the device, without waiting for it."""

    def param_groups(self, model: nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Return the optimizer's parameter groups."""
        ...

    def build_optimizers(self, model: nn.Module, config: TrainConfig) -> list[Optimizer] | None:
        """Return the method's own optimizers, each of which follows the schedule; None for the default."""
        ...

    def end_epoch(self, model: nn.Module, epoch: int, epochs: int) -> None:
        """Run after the steps of `epoch` and before its evaluation."""

    def metrics(self) -> dict[str, float]:
        """Return numbers of the epoch for the log."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed run needs besides the model and the optimizers."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""


class PlainMethod:
    """Ordinary training: cross-entropy over all parameters."""

    def begin_epoch(self, model: nn.Module, epoch: int, epochs: int) -> None:
        """Do nothing."""

    def begin_step(self, model: nn.Module) -> None:
        """Do nothing."""

    def end_step(self, model: nn.Module) -> None:
        """Do nothing."""

    def loss(
        self, model: nn.Module, inputs: Tensor, outputs: Any, targets: Tensor, criterion: nn.Module
    ) -> Tensor:
        """Return the criterion of outputs and targets."""
        value: Tensor = criterion(outputs, targets)
        return value

    def param_groups(self, model: nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Return all trainable parameters in one group."""
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return [{"params": parameters, "lr": lr, "weight_decay": weight_decay}]

    def build_optimizers(self, model: nn.Module, config: TrainConfig) -> list[Optimizer] | None:
        """Return None: the optimizer is that of the configuration."""
        return None

    def end_epoch(self, model: nn.Module, epoch: int, epochs: int) -> None:
        """Do nothing."""

    def metrics(self) -> dict[str, float]:
        """Return nothing."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing."""
