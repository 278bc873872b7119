"""One epoch of optimizer steps, without a wait for the device in any of them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from compress.training.config import TrainConfig
from compress.training.device import average_gradients, sum_over_processes
from compress.training.evaluation import to_device
from compress.training.forward import Forward
from compress.training.probe import REST, NoProbe, Probe
from compress.training.progress import Progress
from compress.training.schedule import learning_rate, set_learning_rate
from compress.training.state import TrainState
from compress.training.watch import LossWatch, non_finite


@dataclass(frozen=True)
class EpochSums:
    """What an epoch's steps came to, over all processes.

    Attributes:
        loss: mean of what was minimised.
        top1: fraction of training images classified right while training.
        lr: learning rate of the last step.
        seconds: wall clock of the steps.
        images: images seen.
    """

    loss: float
    top1: float
    lr: float
    seconds: float
    images: int


@dataclass(frozen=True)
class Stepper:
    """Takes optimizer steps; the same for an epoch, for measuring and for benchmarks.

    Attributes:
        state: what is trained. forward: forward pass and loss, eager or compiled.
        accelerator: device and precision. config: the settings.
        steps: optimizer steps in an epoch.
    """

    state: TrainState
    forward: Forward
    accelerator: Accelerator
    config: TrainConfig
    steps: int

    def learning_rate(self, step: int) -> float:
        """The rate of a step (from 1) of epoch `state.epoch`."""
        return learning_rate(self.config, self.state.epoch * self.steps + step - 1, self.steps)

    def step(self, x: Tensor, y: Tensor, lr: float, probe: Probe) -> tuple[Tensor, Tensor]:
        """Take one step on images `[B, C, H, W]` and labels `[B]`; return loss and scores of it.

        Raises:
            CompressError: ``model-output``.
        """
        state = self.state
        set_learning_rate(state.optimizers, lr / self.config.lr)
        state.method.begin_step(state.model)
        with self.accelerator.autocast():
            loss, logits = self.forward(x, y, probe)
        probe.part("backward")
        self.accelerator.backward(loss)
        average_gradients(self.accelerator, self._outside)
        probe.part("optimizer")
        _update(state, self._trained, self.config.clip_grad)
        state.method.end_step(state.model)
        return loss.detach(), logits.detach()

    @cached_property
    def _trained(self) -> list[nn.Parameter]:
        return self.state.parameters()

    @cached_property
    def _outside(self) -> list[nn.Parameter]:
        return self.state.outside_parameters()


def train_epoch(
    stepper: Stepper,
    wrapped: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    progress: Progress,
    probe: Probe | None = None,
) -> EpochSums:
    """Run the steps of epoch `state.epoch`. On a GPU no step waits for it, only the end of the epoch does.

    Args:
        stepper: takes the steps.
        wrapped: what is trained, or its distributed wrapper.
        batches: this process's share: images `[B, C, H, W]` and labels `[B]`, as many batches as steps.
        progress: is told of every step.
        probe: is told of every step's parts.

    Raises:
        CompressError: ``non-finite``; ``model-output``.
    """
    state, config, accelerator = stepper.state, stepper.config, stepper.accelerator
    probe = probe if probe is not None else NoProbe()
    device = accelerator.device
    watch = LossWatch(device, state.epoch + 1)
    state.model.train()
    wrapped.train()
    lr, own_images, step = config.lr, 0, 0
    began = time.perf_counter()
    source = iter(batches)
    while True:
        probe.begin(step + 1)
        probe.part("data")
        batch = next(source, None)
        if batch is None:
            break
        step += 1
        x, y = to_device(*batch, device, channels_last=config.channels_last)
        lr = stepper.learning_rate(step)
        loss, logits = stepper.step(x, y, lr, probe)
        probe.part("metrics")
        watch.note(step, loss, logits, y)
        shown = watch.look(step, loss, lr)
        probe.part(REST)
        own_images += y.shape[0]
        progress.step(y.shape[0] * accelerator.num_processes, shown)
        probe.end()
    watch.check(lr)
    everything = torch.cat([watch.sums, watch.sums.new_tensor([own_images])])
    total, right, images = sum_over_processes(accelerator, everything).tolist()
    seconds = time.perf_counter() - began
    _check_finite(state, lr)
    return EpochSums(total / images, right / images, lr, seconds, int(images))


def _update(state: TrainState, trained: list[nn.Parameter], clip_grad: float | None) -> None:
    """Take one step with every optimizer.

    The loss scaler of fp16 is driven here and not by Accelerate's optimizer wrapper, which updates the scale
    after each of several optimizers and would so unscale the gradients of the second by another scale.
    """
    if state.scaler is not None:
        for optimizer in state.optimizers:
            state.scaler.unscale_(optimizer)
    if clip_grad is not None:
        torch.nn.utils.clip_grad_norm_(trained, clip_grad)
    for optimizer in state.optimizers:
        if state.scaler is not None:
            state.scaler.step(optimizer)
        else:
            optimizer.step()
    if state.scaler is not None:
        state.scaler.update()
    for optimizer in state.optimizers:
        optimizer.zero_grad(set_to_none=True)
    if state.ema is not None:
        state.ema.update(state.model)


def _check_finite(state: TrainState, lr: float) -> None:
    """Refuse an epoch that ended with weights that are not finite, before it is saved."""
    with torch.no_grad():
        norms = torch._foreach_norm([parameter.detach() for parameter in state.parameters()])
        if not bool(torch.isfinite(torch.stack(list(norms)).sum()).item()):
            raise non_finite(f"the weights are not finite after epoch {state.epoch + 1}", lr)
