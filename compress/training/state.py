"""Everything that changes during a training, in one place, so that a checkpoint is complete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from compress.artifact import RunFolder
from compress.artifact.run import CHANGEABLE_ON_RESUME
from compress.core.errors import CompressError
from compress.training.checkpoint import State, load_model_state
from compress.training.config import TrainConfig
from compress.training.ema import Ema
from compress.training.method import TrainableMethod


@dataclass
class TrainState:
    """What is trained, and its progress.

    Attributes:
        model: the bare network.
        method: the method.
        optimizers: one or more, all on one schedule.
        ema: moving average of the weights, if configured.
        scaler: the loss scaler of fp16.
        epoch: finished epochs.
        best_top1: best accuracy on the test images so far, a fraction; below 0 before the first epoch.
        best_epoch: the epoch (from 1) that reached it.
    """

    model: nn.Module
    method: TrainableMethod
    optimizers: list[Optimizer]
    ema: Ema | None
    scaler: GradScaler | None
    epoch: int = 0
    best_top1: float = -1.0
    best_epoch: int = 0

    @property
    def evaluated(self) -> nn.Module:
        """The network that is evaluated: the average, if there is one."""
        return self.ema.module if self.ema is not None else self.model

    def outside_parameters(self) -> list[nn.Parameter]:
        """Return trained parameters that do not belong to the network (a method's own)."""
        inside = {id(parameter) for parameter in self.model.parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in inside]

    def parameters(self) -> list[nn.Parameter]:
        """Return all parameters that the optimizers train."""
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        return [parameter for group in groups for parameter in group["params"]]

    def state_dict(self, config: TrainConfig) -> State:
        """Return everything that a resumed training needs, as tensors and plain values."""
        return {
            "epoch": self.epoch,
            "config": config.model_dump(mode="json"),
            "best": {"top1": self.best_top1, "epoch": self.best_epoch},
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict() if self.scaler is not None else None,
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "method": self.method.state_dict(),
        }

    def load_state_dict(self, state: State, config: TrainConfig, run: RunFolder) -> None:
        """Restore what `state_dict` returned.

        Raises:
            CompressError: ``resume-mismatch`` naming the settings that differ, ``weights-mismatch``.
        """
        _require_same(state["config"], config, run)
        if len(state["optimizers"]) != len(self.optimizers):
            raise CompressError(
                f"the checkpoint in {str(run.path)!r} has {len(state['optimizers'])} optimizers, "
                f"this training {len(self.optimizers)}",
                hint="resume with the method of its run.json",
                code="resume-mismatch",
            )
        load_model_state(self.model, state["model"], run)
        self.method.load_state_dict(state["method"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        if self.scaler is not None and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.epoch = int(state["epoch"])
        self.best_top1, self.best_epoch = float(state["best"]["top1"]), int(state["best"]["epoch"])


def _require_same(saved: dict[str, Any], config: TrainConfig, run: RunFolder) -> None:
    now = config.model_dump(mode="json")
    differing = sorted(
        key
        for key in saved.keys() | now.keys()
        if saved.get(key) != now.get(key) and key not in CHANGEABLE_ON_RESUME
    )
    if differing:
        shown = ", ".join(f"{key} (was {saved.get(key)!r}, now {now.get(key)!r})" for key in differing)
        raise CompressError(
            f"cannot resume {str(run.path)!r} with other settings: {shown}",
            hint="resume with the settings in its run.json, or train again with another --out",
            code="resume-mismatch",
            details={"differing": differing},
        )
