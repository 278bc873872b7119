"""Groups and protected layers of one small network for each use of an operator."""

from __future__ import annotations

import pytest
import torch
from exactness import traced
from families import CASES


@pytest.mark.parametrize("name", CASES)
def test_network_has_the_expected_groups_and_protected_layers(name: str) -> None:
    torch.manual_seed(0)
    case = CASES[name]
    graph = traced(case.build(), case.random_inputs())
    groups = {group.name for group in graph.groups}
    assert set(case.cut) <= groups, f"groups {groups}, protected {graph.protected}"
    for layer, reason in case.protected.items():
        reasons = [p.why for p in graph.protected if p.name == layer]
        assert any(reason in why for why in reasons), f"{layer}: {reasons}"
