"""Criteria: which channels of a group are kept."""

from __future__ import annotations

import pytest
import torch
from exactness import traced_case
from families import CASES
from torch import nn

from compress.core.errors import CompressError
from compress.graph import trace
from compress.planning import make_plan


def _kept_channels(criterion: str) -> list[int]:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)
    )
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, -4.0, 2.0, 3.0]).reshape(4, 1, 1, 1))
        model[1].weight.copy_(torch.tensor([0.9, 0.1, -0.8, 0.2]))
    plan = make_plan(trace(model, torch.randn(2, 1, 2, 2)), keep=0.5, criterion=criterion)  # type: ignore[arg-type]
    kept: list[int] = plan.kept["0.weight"][0]
    return kept


@pytest.mark.parametrize(
    ("criterion", "kept"), [("l1", [1, 3]), ("l2", [1, 3]), ("bn-scale", [0, 2]), ("window", [1, 2])]
)
def test_criterion_keeps_the_channels_with_the_highest_scores(criterion: str, kept: list[int]) -> None:
    assert _kept_channels(criterion) == kept


def test_l1_and_l2_rank_a_spread_and_a_peaked_filter_differently() -> None:
    model = nn.Sequential(nn.Conv2d(4, 2, 1, bias=False), nn.ReLU(), nn.Conv2d(2, 2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.5, 0.5, 0.5, 0.5], [1.5, 0.0, 0.0, 0.0]]).reshape(2, 4, 1, 1))
    graph = trace(model, torch.randn(2, 4, 4, 4))
    assert make_plan(graph, keep=0.5, criterion="l1").kept["0.weight"][0] == [0]
    assert make_plan(graph, keep=0.5, criterion="l2").kept["0.weight"][0] == [1]


def test_random_criterion_depends_only_on_the_seed() -> None:
    _, graph, _ = traced_case("Concatenate")
    one, same, other = (make_plan(graph, keep=0.5, criterion="random", seed=s).kept for s in (1, 1, 2))
    assert one == same
    assert one != other


def test_free_pads_refuse_criteria_that_keep_scattered_channels() -> None:
    model, images = CASES["PaddedShortcut"].build(), torch.randn(2, 3, 8, 8)
    with pytest.raises(CompressError, match="free pads"):
        make_plan(trace(model, images, free_pads=True), keep=0.5, criterion="l1")
