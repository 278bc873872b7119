"""Groups and protected layers of one small network for each use of an operator."""

from __future__ import annotations

import pytest
from exactness import traced_family
from families import CASES


@pytest.mark.parametrize("name", CASES)
def test_network_has_the_expected_groups_and_protected_layers(name: str) -> None:
    case, (_, graph, _) = CASES[name], traced_family(name)
    groups = {group.name for group in graph.groups}
    assert set(case.cut) <= groups, f"groups {groups}, protected {graph.protected}"
    for layer, reason in case.protected.items():
        reasons = [p.why for p in graph.protected if p.name == layer]
        assert any(reason in why for why in reasons), f"{layer}: {reasons}"
