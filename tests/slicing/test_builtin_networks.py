"""Built-in networks, with random and with trained weights: exact slices, and the planned MACs."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from exactness import assert_exact, traced
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from compress import data, models
from compress.graph import ChannelGraph, trace
from compress.planning import make_plan
from compress.slicing import slice_model

SIZE = (3, 32, 32)


@cache
def _traced_builtin(name: str, free_pads: bool) -> tuple[nn.Module, ChannelGraph, Tensor]:
    """Return a built-in network, its graph and its images; traced once and only to be read."""
    torch.manual_seed(0)
    model, images = models.build(name, input_size=SIZE), torch.randn(2, *SIZE)
    return model, traced(model, images, free_pads=free_pads), images


def _executed_macs(model: nn.Module) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, *SIZE))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(("free_pads", "criterion"), [(False, "random"), (True, "window")])
def test_sliced_builtin_network_equals_the_masked_dense_one(
    builtin: str, free_pads: bool, criterion: str
) -> None:
    model, graph, images = _traced_builtin(builtin, free_pads)
    plan = make_plan(graph, keep=0.5, criterion=criterion)  # type: ignore[arg-type]
    assert_exact(model, plan, images)


def test_planned_macs_equal_the_executed_macs(builtin: str) -> None:
    model, graph, _ = _traced_builtin(builtin, True)
    plan = make_plan(graph, macs=0.5, criterion="window")
    compact = slice_model(model, plan)
    assert plan.dense.macs == _executed_macs(model)
    assert plan.narrow.macs == _executed_macs(compact)
    assert plan.narrow.params == sum(p.numel() for p in compact.parameters())
    assert plan.narrow.macs <= 0.51 * plan.dense.macs


def test_network_trained_on_digits_is_sliced_exactly(builtin: str) -> None:
    torch.manual_seed(0)
    model = models.build(builtin, input_size=SIZE).train()
    digits = data.load("digits", input_size=SIZE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for step, (images, labels) in enumerate(digits.train_batches(epoch=0, batch_size=4, seed=0)):
        if step == 2:
            break
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    graph = trace(model, images[:2])
    plan = make_plan(graph, keep=0.5, criterion="l1")
    assert_exact(model, plan, images)
