"""Single training steps of a method on a network, without data set or run folder."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from compress import methods, models
from compress.cost import dense_costs
from compress.graph import trace
from compress.methods import Method, Setup
from compress.planning import make_plan
from compress.training import TrainConfig
from compress.training.device import accelerated, prepare, seed_everything
from compress.training.ema import Ema
from compress.training.evaluation import to_device
from compress.training.optim import build_optimizers
from compress.training.probe import NoProbe
from compress.training.state import TrainState
from compress.training.steps import Forward, Stepper

CLASSES = 10
STEPS = 50
"""Steps per epoch that methods are configured with."""


@dataclass
class Side:
    """A network that a method trains; one side of a paired comparison.

    Attributes:
        method: the method. model: the trained network. stepper: executes the steps.
        x, y: a random batch on the device.
    """

    method: Method
    model: nn.Module
    stepper: Stepper
    x: Tensor
    y: Tensor

    def begin(self, epoch: int) -> None:
        """Begin an epoch as the training loop does."""
        config = self.stepper.config
        self.stepper.state.epoch = epoch
        seed_everything(config.seed, epoch)
        self.method.begin_epoch(self.model, epoch, config.epochs)
        seed_everything(config.seed, epoch, 0)
        self.model.train()

    def step(self) -> Tensor:
        """Execute one step at the learning rate of the first step; return its loss."""
        loss, _ = self.stepper.step(self.x, self.y, self.stepper.learning_rate(1), NoProbe())
        return loss


def side(
    accelerator: Accelerator,
    config: TrainConfig,
    method: str,
    model: str | nn.Module,
    *,
    batch: int,
    pixels: int = 32,
    share: float = 0.5,
    options: Mapping[str, Any] | None = None,
    backend: str | None = None,
) -> Side:
    """Prepare `model`, a name or a network, for `method` at `share` of its MACs.

    All randomness comes from `config.seed`.
    """
    size = (3, pixels, pixels)
    kind = methods.METHODS.get_or_raise(method)
    torch.manual_seed(config.seed)
    dense = models.build(model, CLASSES, size) if isinstance(model, str) else model
    graph = trace(dense, torch.rand(2, *size), free_pads=kind.free_pads)
    is_planned = kind.needs_target and not kind.learns_plan
    setup = Setup(
        model=dense,
        graph=graph,
        plan=make_plan(graph, macs=share, criterion=kind.criterion) if is_planned else None,
        config=config,
        steps_per_epoch=STEPS,
        cost="macs",
        budget=share * dense_costs(graph).macs,
        align="none",
        teacher=copy.deepcopy(dense) if kind.uses_teacher else None,
    )
    made: Method = kind(kind.config_type(**(options or {})), setup)
    network = made.model
    wrapped = prepare(accelerator, network, channels_last=config.channels_last)
    state = TrainState(
        model=network,
        method=made,
        optimizers=build_optimizers(network, made, config),
        ema=Ema(network, config.ema) if config.ema is not None else None,
        scaler=accelerator.scaler if config.precision == "fp16" else None,
    )
    forward = Forward(wrapped, network, made, nn.CrossEntropyLoss(), CLASSES, backend)
    random = torch.Generator().manual_seed(config.seed)
    x, y = to_device(
        torch.randn(batch, *size, generator=random),
        torch.randint(0, CLASSES, (batch,), generator=random),
        accelerator.device,
        channels_last=config.channels_last,
    )
    return Side(made, network, Stepper(state, forward, accelerator, config, STEPS), x, y)


@contextlib.contextmanager
def training(**settings: Any) -> Iterator[tuple[Accelerator, TrainConfig]]:
    """Yield the accelerator and the configuration for `side`."""
    config = TrainConfig(**{"epochs": 8, "lr": 0.01, "device": "auto", **settings})
    with accelerated(config) as accelerator:
        yield accelerator, config
