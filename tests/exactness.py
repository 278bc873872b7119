"""Assertions and helpers for tests of the channel graph, planning and slicing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from families import CASES
from torch import Tensor, nn

from compress.graph import ChannelGraph, SlicePlan, trace
from compress.slicing import compare, mask_model, slice_model

TOLERANCE = 1e-5
"""Largest allowed difference, relative to the largest output."""


def randomize(model: nn.Module, seed: int = 0) -> nn.Module:
    """Set norms, biases and running statistics to random values, in place, and return the model.

    With their initial zeros and ones a wrong channel could go unnoticed.
    """
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
    """Return inputs as a tuple."""
    return (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)


def assert_exact(
    model: nn.Module, plan: SlicePlan, inputs: Tensor | Sequence[Any], tolerance: float = TOLERANCE
) -> nn.Module:
    """Slice, compare with the masked dense network on the inputs, and return the compact model.

    The comparison is made in double precision, so that a difference means a wrong channel and not rounding.
    """
    batch = tuple(
        x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for x in as_batch(inputs)
    )
    dense = model.double()
    compact = slice_model(dense, plan)
    masked = mask_model(dense, plan)
    report = compare(masked, compact, batch, tolerance)
    model.float()
    assert report.passed, f"relative error {report.max_rel:.3g}"
    assert sum(p.numel() for p in compact.parameters()) == plan.narrow.params
    return compact.float()


def traced(model: nn.Module, inputs: Tensor | Sequence[Any], **options: Any) -> ChannelGraph:
    """Randomize a model (see `randomize`) and trace it."""
    randomize(model)
    return trace(model, as_batch(inputs), **options)


@cache
def traced_family(name: str) -> tuple[nn.Module, ChannelGraph, tuple[Tensor, ...]]:
    """Return a network of `families.CASES`, its graph and its inputs; traced once and only to be read."""
    torch.manual_seed(0)
    model, inputs = CASES[name].build(), CASES[name].random_inputs()
    return model, traced(model, inputs), inputs


def traced_case(name: str) -> tuple[nn.Module, ChannelGraph, Tensor]:
    """Return a network of `families.CASES` with random weights, its graph, and images `[2, 3, 8, 8]`."""
    torch.manual_seed(0)
    model, images = CASES[name].build(), torch.randn(2, 3, 8, 8)
    return model, traced(model, images), images
