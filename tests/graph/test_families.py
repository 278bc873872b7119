"""Every family of operators is cut exactly, and what cannot be is protected with its reason."""

from __future__ import annotations

import pytest
import torch
from exactness import assert_exact, traced
from families import CASES

from compress.planning import make_plan


def _inputs(name: str) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(7)
    return tuple(torch.randn(shape, generator=generator) for shape in CASES[name].inputs)


@pytest.mark.parametrize("name", CASES)
def test_sliced_family_equals_the_masked_dense_network(name: str) -> None:
    torch.manual_seed(0)
    model = CASES[name].build()
    inputs = _inputs(name)
    graph = traced(model, inputs)
    for seed in range(3):
        plan = make_plan(graph, keep=0.5, criterion="random", seed=seed)
        assert_exact(model, plan, inputs)
        assert plan.narrow.params < plan.dense.params


@pytest.mark.parametrize("name", CASES)
def test_family_is_cut_where_it_can_be_and_protected_where_not(name: str) -> None:
    torch.manual_seed(0)
    expected = CASES[name]
    graph = traced(expected.build(), _inputs(name))
    found = {group.name for group in graph.groups}
    assert set(expected.cut) <= found, f"groups {found}, protected {graph.protected}"
    for layer, word in expected.protected.items():
        reasons = [p.why for p in graph.protected if p.name == layer]
        assert any(word in why for why in reasons), f"{layer}: {reasons}"
