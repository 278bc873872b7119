"""Dense network of a run for benchmarks: random weights and calibrated batch-norm statistics."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn

from compress import artifact
from compress.artifact import RunFolder

CALIBRATION_IMAGES = 8
"""Random images that the batch-norm statistics are computed from."""


def build_calibrated_dense(run: str | Path | RunFolder, model: nn.Module | None = None) -> nn.Module:
    """Return a run's dense network with random weights and the batch-norm statistics of a random batch.

    In a deep network with random weights, activations can vanish or overflow, and denormal numbers slow a CPU
    down many times. With calibrated statistics, activations are as large as in a trained network.

    Args:
        run: an open run folder or its path.
        model: the dense network, for a run that was trained from a module; it is copied.
    """
    dense = artifact.build_dense(run) if model is None else _with_fresh_weights(model)
    norms = [module for module in dense.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return dense
    momenta = [norm.momentum for norm in norms]
    generator = torch.Generator().manual_seed(0)
    size = artifact.compact_info(run).model.input_size
    images = torch.randn(CALIBRATION_IMAGES, *size, generator=generator)
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        dense(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return dense.eval()


def _with_fresh_weights(model: nn.Module) -> nn.Module:
    """Return a copy on the CPU in evaluation mode, whose layers are initialized again where they can be."""
    dense = copy.deepcopy(model).cpu().eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for module in dense.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
    return dense
