"""Optimizers of a training."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from compress.training.config import TrainConfig
from compress.training.method import TrainableMethod


def build_optimizers(model: nn.Module, method: TrainableMethod, config: TrainConfig) -> list[Optimizer]:
    """Return the method's own optimizers, or one of the configured kind over its parameter groups."""
    own = method.build_optimizers(model, config)
    optimizers = (
        own
        if own is not None
        else [build_optimizer(method.param_groups(model, config.lr, config.weight_decay), config)]
    )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
    return optimizers


def build_optimizer(groups: list[dict[str, Any]], config: TrainConfig) -> Optimizer:
    """Return one optimizer of `config.optimizer` over parameter groups.

    SGD and AdamW are fused (one kernel for many parameters, which also applies the loss scale of fp16 on the
    device) where torch supports it for the parameters; Adamax has no fused form.
    """
    fused = True if config.optimizer != "adamax" and can_fuse(groups) else None
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            groups,
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=config.nesterov,
            fused=fused,
        )
    betas = (config.momentum, 0.999)
    eps = config.eps if config.eps is not None else 1e-8
    if config.optimizer == "adamw":
        return torch.optim.AdamW(
            groups, lr=config.lr, betas=betas, eps=eps, weight_decay=config.weight_decay, fused=fused
        )
    return torch.optim.Adamax(groups, lr=config.lr, betas=betas, eps=eps, weight_decay=config.weight_decay)


def can_fuse(groups: list[dict[str, Any]]) -> bool:
    """Return whether fused optimizers support all parameters: dense floating point on a GPU or CPU."""
    every = [parameter for group in groups for parameter in group["params"]]
    return bool(every) and all(
        p.device.type in ("cuda", "cpu") and p.is_floating_point() and p.layout == torch.strided
        for p in every
    )
