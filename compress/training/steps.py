"""One epoch of optimizer steps, without a wait for the device in any of them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils import convert_to_fp32
from torch import Tensor, nn

from compress.errors import CompressError, Exit
from compress.training.config import TrainConfig
from compress.training.device import average_gradients, sum_over_processes
from compress.training.evaluation import check_outputs, logits_of, to_device
from compress.training.progress import Progress
from compress.training.schedule import learning_rate, set_learning_rate
from compress.training.state import TrainState

_LOOK_EVERY = 50
"""Steps between two looks at the loss where a look makes the device wait."""


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


class LossWatch:
    """Notes on the device the first step whose loss is not finite, and looks at the note now and then.

    Args:
        device: where the losses are.
        epoch: the epoch, from 1, for the message.
    """

    def __init__(self, device: torch.device, epoch: int) -> None:
        self._every = 1 if device.type == "cpu" else _LOOK_EVERY
        self._epoch = epoch
        self._first_bad = torch.full((), -1, dtype=torch.int64, device=device)

    def note(self, step: int, loss: Tensor) -> None:
        """Keep `step` (from 1) if its loss is the first that is not finite."""
        is_first = ~torch.isfinite(loss) & (self._first_bad < 0)
        self._first_bad = torch.where(is_first, step, self._first_bad)

    def due(self, step: int) -> bool:
        """Whether this is a step to look at."""
        return step % self._every == 0

    def check(self, lr: float) -> None:
        """Look.

        Raises:
            CompressError: ``non-finite``, naming epoch, step and learning rate.
        """
        step = int(self._first_bad.item())
        if step >= 0:
            raise non_finite(f"the loss is not finite at epoch {self._epoch}, step {step}", lr)


def non_finite(what: str, lr: float) -> CompressError:
    """Return the error for a training that has diverged."""
    return CompressError(
        f"{what} (learning rate {lr:.4g}); the last good checkpoint is kept",
        hint="use a lower --lr, a warm-up, or a limit on the gradients (clip_grad)",
        code="non-finite",
        exit=Exit.INTERNAL,
    )


def train_epoch(
    state: TrainState,
    wrapped: nn.Module,
    accelerator: Accelerator,
    config: TrainConfig,
    criterion: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    steps: int,
    num_classes: int,
    progress: Progress,
) -> EpochSums:
    """Run the steps of epoch `state.epoch`.

    Args:
        state: what is trained.
        wrapped: what a step calls: the model, or its distributed wrapper.
        accelerator: device and precision.
        config: the settings.
        criterion: loss of scores and labels.
        batches: this process's share, `steps` batches of images `[B, C, H, W]` and labels `[B]`.
        steps: optimizer steps in an epoch.
        num_classes: width of the output.
        progress: is told of every step.

    Raises:
        CompressError: ``non-finite``; ``model-output``.
    """
    device = accelerator.device
    watch = LossWatch(device, state.epoch + 1)
    sums = torch.zeros(2, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
    trained, outside = state.parameters(), state.outside_parameters()
    state.model.train()
    wrapped.train()
    lr, own_images = config.lr, 0
    began = time.perf_counter()
    for step, (inputs, targets) in enumerate(batches, start=1):
        lr = learning_rate(config, state.epoch * steps + step - 1, steps)
        set_learning_rate(state.optimizers, lr / config.lr)
        x, y = to_device(inputs, targets, device, channels_last=config.channels_last)
        with accelerator.autocast():
            outputs = convert_to_fp32(wrapped(x))
            logits = logits_of(outputs)
            if step == 1:
                check_outputs(logits, num_classes)
            loss = state.method.loss(state.model, x, outputs, y, criterion)
        accelerator.backward(loss)
        average_gradients(accelerator, outside)
        _update(state, trained, config.clip_grad)
        count = y.shape[0]
        with torch.no_grad():
            found = loss.detach()
            watch.note(step, found)
            hits = (logits.detach().argmax(1) == y).sum()
            sums += torch.stack([found.to(sums.dtype) * count, hits.to(sums.dtype)])
        own_images += count
        due = watch.due(step)
        if due:
            watch.check(lr)
        progress.step(count * accelerator.num_processes, float(found.item()) if due else None)
    watch.check(lr)
    everything = torch.cat([sums, sums.new_tensor([own_images])])
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
