"""The differentiable cost equals the integer cost, and its gradient equals finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from compress import models
from compress.cost import cost_model
from compress.cost.relaxed import RelaxedCost
from compress.graph import ChannelGraph, trace


class Grouped(nn.Module):
    """Network with a grouped and a depthwise convolution, a residual addition and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 16, 3, padding=1, groups=4)
        self.c = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.d = nn.Conv2d(16, 8, 1)
        self.e = nn.Linear(8 * 4 * 4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x).relu()
        x = x + self.d(self.c(self.b(x).relu()).relu())
        out: torch.Tensor = self.e(x.flatten(1))
        return out


def graph_of(name: str) -> ChannelGraph:
    torch.manual_seed(0)
    if name == "grouped":
        return trace(Grouped(), torch.rand(2, 3, 4, 4))
    return trace(models.build(name), torch.rand(2, 3, 32, 32))


@pytest.mark.parametrize("name", ["grouped", "vgg_small", "resnet20", "googlenet", "mobilenetv2"])
def test_relaxed_cost_of_a_binary_mask_equals_the_integer_cost(name: str) -> None:
    graph = graph_of(name)
    relaxed = RelaxedCost(cost_model(graph))
    rng = np.random.default_rng(0)
    for _ in range(3):
        mask = rng.random(graph.channels.count) < 0.6
        keep = torch.from_numpy(mask).double()
        costs = cost_model(graph).costs(mask)
        assert round(float(relaxed.macs(keep))) == costs.macs
        assert round(float(relaxed.params(keep))) == costs.params


@pytest.mark.parametrize("name", ["grouped", "vgg_small", "resnet20", "mobilenetv2"])
@pytest.mark.parametrize("kind", ["macs", "params"])
def test_gradient_of_the_cost_equals_its_finite_difference(name: str, kind: str) -> None:
    graph = graph_of(name)
    relaxed = RelaxedCost(cost_model(graph))
    torch.manual_seed(0)
    keep = torch.rand(graph.channels.count, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(relaxed.of(kind, keep), keep)
    free = np.flatnonzero(graph.channels.removable)
    chosen = np.random.default_rng(0).choice(free, size=min(12, free.size), replace=False)
    for i in chosen:
        step = torch.zeros_like(keep)
        step[i] = 1e-3
        with torch.no_grad():
            slope = (relaxed.of(kind, keep + step) - relaxed.of(kind, keep - step)) / 2e-3
        assert float(gradient[i]) == pytest.approx(float(slope), rel=1e-6)
        assert float(slope) > 0


def test_cost_in_single_precision_agrees_with_double_precision() -> None:
    relaxed = RelaxedCost(cost_model(graph_of("vgg_small")))
    keep = torch.rand(graph_of("vgg_small").channels.count)
    assert float(relaxed.macs(keep)) == pytest.approx(float(relaxed.macs(keep.double())), rel=1e-5)
