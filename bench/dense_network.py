"""Dense network of a run for benchmarks: random weights and calibrated batch-norm statistics."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from compress import artifact
from compress.artifact import RunFolder

CALIBRATION_IMAGES = 8
"""Random images that the batch-norm statistics are computed from."""


def build_calibrated_dense(run: str | Path | RunFolder) -> nn.Module:
    """Return a run's dense network with random weights and the batch-norm statistics of a random batch.

    In a deep network with random weights, activations can vanish or overflow, and denormal numbers slow a CPU
    down many times. With calibrated statistics, activations are as large as in a trained network.
    """
    model = artifact.build_dense(run)
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return model
    momenta = [norm.momentum for norm in norms]
    generator = torch.Generator().manual_seed(0)
    size = artifact.compact_info(run).model.input_size
    images = torch.randn(CALIBRATION_IMAGES, *size, generator=generator)
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()
