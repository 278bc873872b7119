"""What every test of the channel graph asks: is the sliced network the masked dense one?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compress.graph import ChannelGraph, SlicePlan, trace
from compress.slicing import compare, mask_model, slice_model

TOLERANCE = 1e-5


def randomize(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give norms, biases and running statistics values that matter, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if not tensor.is_floating_point() or tensor.dim() != 1 or "mask" in name:
                continue
            noise = torch.rand(tensor.shape, generator=generator).to(tensor)
            positive = name.endswith(("running_var", "weight"))
            tensor.copy_(0.5 + noise if positive else noise - 0.5)
    return model


def as_batch(inputs: Tensor | Sequence[Any]) -> tuple[Any, ...]:
    """Inputs as a tuple."""
    return (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)


def assert_exact(
    model: nn.Module, plan: SlicePlan, inputs: Tensor | Sequence[Any], tolerance: float = TOLERANCE
) -> nn.Module:
    """Slice and compare with the masked dense network on the inputs; return the narrow network.

    Compared in double precision, so that only a wrong channel can make a difference.
    """
    batch = tuple(
        x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for x in as_batch(inputs)
    )
    dense = model.double()
    narrow = slice_model(dense, plan)
    masked = mask_model(dense, plan)
    report = compare(masked, narrow, batch, tolerance)
    model.float()
    assert report.max_rel <= tolerance, f"relative error {report.max_rel:.3g}"
    assert sum(p.numel() for p in narrow.parameters()) == plan.narrow.params
    return narrow.float()


def traced(model: nn.Module, inputs: Tensor | Sequence[Any], **options: Any) -> ChannelGraph:
    """Randomise a model and trace it."""
    randomize(model)
    return trace(model, as_batch(inputs), **options)
