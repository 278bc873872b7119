"""Batch norms are synchronized over several GPU processes only, in place, and restored afterwards."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from compress.core.errors import CompressError
from compress.training.sync_norms import synchronized_norms, uses_sync_bn


class Half(nn.Module):
    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor / 2


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))
    parametrize.register_parametrization(model[1], "weight", Half())
    return model


@pytest.mark.parametrize(
    ("setting", "device", "processes", "expected"),
    [
        ("auto", "cuda", 4, True),
        ("auto", "cuda", 1, False),
        ("auto", "cpu", 4, False),
        ("on", "cuda", 2, True),
        ("off", "cuda", 4, False),
    ],
)
def test_norms_are_synchronized_where_several_gpus_train(
    setting: str, device: str, processes: int, expected: bool
) -> None:
    assert uses_sync_bn(setting, device, processes) is expected


def test_synchronizing_on_a_cpu_is_refused() -> None:
    with pytest.raises(CompressError, match="needs CUDA devices") as error:
        uses_sync_bn("on", "cpu", 2)
    assert error.value.code == "sync-bn" and "--sync-bn auto" in error.value.hint


def test_synchronized_norms_compute_the_same_in_evaluation_and_are_restored() -> None:
    model, x = network().eval(), torch.rand(2, 3, 8, 8)
    classes, expected = [type(module) for module in model], model(x)
    with synchronized_norms(model, True):
        assert sum(isinstance(module, nn.SyncBatchNorm) for module in model) == 2
        assert torch.equal(model(x), expected) and torch.equal(copy.deepcopy(model)(x), expected)
        assert parametrize.is_parametrized(model[1], "weight")
        in_training = model.train()(x)
    assert [type(module) for module in model] == classes
    assert torch.equal(model.train()(x), in_training)


def test_inactive_block_changes_nothing() -> None:
    model = network()
    with synchronized_norms(model, False):
        assert not any(isinstance(module, nn.SyncBatchNorm) for module in model)
