"""The worked example of the README is a method: it trains, is cut exactly, and stands in a comparison."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compress.methods import base
from compress.pipeline import TrainResult

README = Path(__file__).resolve().parents[2] / "README.md"


def example() -> str:
    found: list[str] = [
        b for b in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "@register(" in b
    ]
    assert len(found) == 1
    return found[0]


@pytest.fixture
def registered() -> Iterator[None]:
    exec(compile(example(), "README.md", "exec"), {"__name__": "readme"})
    yield
    base._METHODS.pop("distill")


def test_example_has_fewer_than_sixty_lines() -> None:
    assert example().count("\n") < 60


@pytest.mark.usefixtures("registered")
def test_example_trains_and_its_network_is_the_planned_one(run: Callable[..., TrainResult]) -> None:
    said: list[str] = []
    result = run("distill", 3, options={"weight": 0.5}, said=said)
    assert "distill trains the dense network first" in said[0]
    assert result.verify["compact_vs_trained"]["passed"]
    assert result.compact.macs == pytest.approx(0.5 * result.dense.macs, rel=0.01)
