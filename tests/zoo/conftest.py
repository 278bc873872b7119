"""`--zoo` runs every network of the zoo; without it, the sample."""

from __future__ import annotations

import pytest

from benchmarks.networks import ZOO


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "zoo: a network outside the quick sample; runs with --zoo or -m zoo")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a network."""
    if "network" in metafunc.fixturenames:
        cases = [
            pytest.param(network, id=network.name, marks=() if network.sample else pytest.mark.zoo)
            for network in ZOO
        ]
        metafunc.parametrize("network", cases)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not in the sample, unless it is asked for."""
    if config.getoption("--zoo", default=False) or "zoo" in str(config.getoption("markexpr", default="")):
        return
    outside = [item for item in items if item.get_closest_marker("zoo")]
    if outside:
        config.hook.pytest_deselected(items=outside)
        items[:] = [item for item in items if item not in outside]
