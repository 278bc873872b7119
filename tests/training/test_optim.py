"""Fused optimizers take the same steps as plain ones, in either memory format."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import training_job

from compress.training import PlainMethod, TrainConfig, build_optimizer
from compress.training.optim import build_optimizers


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(("name", "nesterov"), [("sgd", True), ("sgd", False), ("adamw", False)])
def test_fused_steps_are_those_of_the_plain_optimizer(
    name: str, nesterov: bool, layout: torch.memory_format
) -> None:
    ends: list[dict[str, Any]] = []
    for fused in (True, False):
        model = training_job.network(dropout=0.0).to(memory_format=layout)
        config = TrainConfig(optimizer=name, nesterov=nesterov, lr=0.01)  # type: ignore[arg-type]
        (optimizer,) = build_optimizers(model, PlainMethod(), config)
        assert optimizer.param_groups[0]["fused"] is True
        optimizer.param_groups[0]["fused"] = fused
        random = torch.Generator().manual_seed(0)
        for _ in range(3):
            for parameter in model.parameters():
                gradient = torch.randn(parameter.shape, generator=random)
                (parameter * gradient).sum().backward()  # laid out as autograd does it
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        ends.append(model.state_dict())
    for key, value in ends[1].items():
        torch.testing.assert_close(ends[0][key], value, rtol=1e-5, atol=1e-6)


def test_parameters_that_are_not_numbers_of_a_known_device_are_not_fused() -> None:
    parameter = torch.nn.Parameter(torch.empty(2, device="meta"))
    groups = [{"params": [parameter], "lr": 0.1, "weight_decay": 0.0}]
    assert build_optimizer(groups, TrainConfig()).param_groups[0]["fused"] is None
