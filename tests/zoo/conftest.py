"""Selection of zoo networks: a sample by default, all of them with `--zoo` or `-m zoo`."""

from __future__ import annotations

import pytest

from benchmarks.networks import ZOO


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "zoo: a network outside the default sample; runs with --zoo or -m zoo")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize tests by network."""
    if "network" in metafunc.fixturenames:
        cases = [
            pytest.param(network, id=network.name, marks=() if network.sample else pytest.mark.zoo)
            for network in ZOO
        ]
        metafunc.parametrize("network", cases)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect networks outside the sample, unless `--zoo` or `-m zoo` selects them."""
    if config.getoption("--zoo", default=False) or "zoo" in str(config.getoption("markexpr", default="")):
        return
    outside = [item for item in items if item.get_closest_marker("zoo")]
    if outside:
        config.hook.pytest_deselected(items=outside)
        items[:] = [item for item in items if item not in outside]
