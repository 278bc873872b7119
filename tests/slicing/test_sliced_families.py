"""Exactness of one small network for each use of an operator."""

from __future__ import annotations

import pytest
from exactness import assert_exact, traced_family
from families import CASES

from compress.planning import make_plan


@pytest.mark.parametrize("name", CASES)
def test_sliced_network_equals_the_masked_dense_one(name: str) -> None:
    model, graph, inputs = traced_family(name)
    for seed in range(3):
        plan = make_plan(graph, keep=0.5, criterion="random", seed=seed)
        assert_exact(model, plan, inputs)
        assert plan.narrow.params < plan.dense.params
