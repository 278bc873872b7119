"""The learning rate at a step."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from compress.training import TrainConfig, learning_rate
from compress.training.schedule import set_learning_rate


def test_step_follows_the_papers_epochs() -> None:
    config = TrainConfig(epochs=300, lr=0.1, schedule="step", milestones=(150, 225), gamma=0.1)
    rates = [learning_rate(config, epoch * 7, 7) for epoch in (0, 149, 150, 224, 225, 299)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_fractions_and_epochs_name_the_same_milestones() -> None:
    fractions = TrainConfig(epochs=300, schedule="step", milestones=(0.5, 0.75))
    epochs = TrainConfig(epochs=300, schedule="step", milestones=(150, 225))
    steps = range(0, 3000, 13)
    assert [learning_rate(fractions, s, 10) for s in steps] == [learning_rate(epochs, s, 10) for s in steps]


def test_cosine_agrees_with_pytorchs() -> None:
    config = TrainConfig(epochs=4, lr=0.2, min_lr=0.01, schedule="cosine")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=0.01)
    for step in range(20):
        assert learning_rate(config, step, 5) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


def test_linear_warm_up_agrees_with_pytorchs() -> None:
    config = TrainConfig(epochs=4, lr=0.2, warmup_epochs=2, warmup_lr=0.02, schedule="constant")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
    theirs = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=10)
    for step in range(20):
        assert learning_rate(config, step, 5) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


def test_geometric_warm_up_multiplies_by_the_same_factor_at_each_step() -> None:
    config = TrainConfig(epochs=4, lr=1e-2, warmup_epochs=2, warmup_lr=1e-4, warmup="geometric")
    rates = [learning_rate(config, step, 5) for step in range(11)]
    assert rates[0] == pytest.approx(1e-4) and rates[10] == pytest.approx(1e-2)
    assert [b / a for a, b in pairwise(rates)] == pytest.approx([100**0.1] * 10)


def test_groups_keep_their_ratio() -> None:
    groups = [
        {"params": [torch.zeros(1, requires_grad=True)], "lr": 0.1},
        {"params": [torch.zeros(1, requires_grad=True)], "lr": 0.02},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    for factor in (0.5, 0.1):
        set_learning_rate([optimizer], factor)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.002])


def test_cosine_that_anneals_early_is_down_from_then_on() -> None:
    whole = TrainConfig(epochs=4, lr=0.2, min_lr=0.01, warmup_epochs=1)
    early = TrainConfig(epochs=6, lr=0.2, min_lr=0.01, warmup_epochs=1, anneal_epochs=4)
    assert [learning_rate(early, step, 5) for step in range(20)] == [
        learning_rate(whole, step, 5) for step in range(20)
    ]
    assert {learning_rate(early, step, 5) for step in range(20, 30)} == {0.01}


@pytest.mark.parametrize("anneal", [1.0, 7.0])
def test_annealing_ends_after_the_warm_up_and_within_the_training(anneal: float) -> None:
    with pytest.raises(ValueError, match=f"anneal_epochs {anneal:g} must be above warmup_epochs 1"):
        TrainConfig(epochs=6, warmup_epochs=1, anneal_epochs=anneal)
