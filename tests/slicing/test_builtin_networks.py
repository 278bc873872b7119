"""Every built-in network, with random and with trained weights, is cut exactly and counted right."""

from __future__ import annotations

import pytest
import torch
from exactness import assert_exact, traced
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from compress import data, models
from compress.planning import make_plan
from compress.slicing import slice_model

SIZE = (3, 32, 32)


def _count(model: nn.Module, size: tuple[int, ...]) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, *size))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(("free_pads", "criterion"), [(False, "random"), (True, "window")])
def test_sliced_network_of_the_library_equals_the_masked_dense_one(
    builtin: str, free_pads: bool, criterion: str
) -> None:
    torch.manual_seed(0)
    model = models.build(builtin, input_size=SIZE)
    images = torch.randn(2, *SIZE)
    graph = traced(model, images, free_pads=free_pads)
    plan = make_plan(graph, keep=0.5, criterion=criterion)  # type: ignore[arg-type]
    assert_exact(model, plan, images)


def test_planned_macs_equal_the_executed_macs(builtin: str) -> None:
    torch.manual_seed(0)
    model = models.build(builtin, input_size=SIZE)
    graph = traced(model, torch.randn(2, *SIZE), free_pads=True)
    plan = make_plan(graph, macs=0.5, criterion="window")
    assert plan.dense.macs == _count(model, SIZE)
    assert plan.narrow.macs == _count(slice_model(model, plan), SIZE)
    assert plan.narrow.params == sum(p.numel() for p in slice_model(model, plan).parameters())
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
    from compress.graph import trace

    graph = trace(model, images[:2])
    plan = make_plan(graph, keep=0.5, criterion="l1")
    assert_exact(model, plan, images)
