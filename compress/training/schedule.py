"""Learning rate as a pure function of the step, so that a resumed run has no schedule to restore."""

from __future__ import annotations

import math

from torch.optim import Optimizer

from compress.training.config import TrainConfig


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step.

    Warm-up and cosine change at every step; ``step`` changes at the beginning of an epoch. The cosine spans
    the epochs from the warm-up to `anneal_epochs` and then stays at its minimum; milestones count from the
    first epoch.

    Args:
        config: the settings.
        step: optimizer steps already taken, from 0.
        steps_per_epoch: optimizer steps in an epoch.
    """
    warmup_steps = round(config.warmup_epochs * steps_per_epoch)
    if step < warmup_steps:
        return _warmup(config, step, warmup_steps)
    if config.schedule == "cosine":
        end = round((config.anneal_epochs or config.epochs) * steps_per_epoch)
        rest = max(end - warmup_steps, 1)
        wave = (1 + math.cos(math.pi * min((step - warmup_steps) / rest, 1.0))) / 2
        return config.min_lr + (config.lr - config.min_lr) * wave
    if config.schedule == "step":
        passed = sum(step >= epoch * steps_per_epoch for epoch in _milestones(config))
        return max(config.lr * config.gamma**passed, config.min_lr)
    return config.lr


def set_learning_rate(optimizers: list[Optimizer], factor: float) -> None:
    """Set the learning rate of every group to `factor` times its initial one."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor


def _warmup(config: TrainConfig, step: int, steps: int) -> float:
    """Return the rate of a warm-up step, from `warmup_lr` at step 0 to `lr` at step `steps`."""
    if config.warmup == "geometric":
        start = config.warmup_lr if config.warmup_lr is not None else config.lr / 100
        return float(start * (config.lr / start) ** (step / steps))
    start = config.warmup_lr if config.warmup_lr is not None else config.lr / steps
    return start + (config.lr - start) * step / steps


def _milestones(config: TrainConfig) -> list[int]:
    return [round(mark * config.epochs) if mark < 1 else round(mark) for mark in config.milestones]
