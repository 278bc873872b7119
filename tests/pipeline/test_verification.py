"""No compact model is returned if its outputs cannot be compared."""

from __future__ import annotations

import copy
import json
import math
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from compress.core.errors import CompressError, Exit
from compress.graph import trace
from compress.methods import Method
from compress.pipeline.verification import finish_verified, slice_verified
from compress.planning import make_plan

IMAGES = torch.rand(4, 3, 8, 8)


class Network(nn.Module):
    """Logits, and a second output whose values can be set to `fill` after tracing."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
        self.fill = 0.0

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits: Tensor = self.body(x).mean((2, 3))
        return logits, torch.full_like(logits, self.fill)


class ShiftsLogits:
    """Stand-in for a method whose `finish` changes the first output by 0.33."""

    def finish(self, trained: nn.Module) -> nn.Module:
        compact = copy.deepcopy(trained)
        with torch.no_grad():
            compact.get_parameter("body.2.bias").add_(0.33)
        return compact


@pytest.mark.parametrize("fill", [math.nan, math.inf])
def test_a_slice_whose_output_is_not_finite_is_refused(fill: float) -> None:
    model = Network()
    plan = make_plan(trace(model, IMAGES), keep=0.5)
    slice_verified(model, plan, IMAGES)
    model.fill = fill
    with pytest.raises(CompressError, match="an output is not finite") as error:
        slice_verified(model, plan, IMAGES)
    assert (error.value.code, error.value.exit) == ("not-exact", Exit.PARITY)
    assert json.loads(json.dumps(error.value.details, allow_nan=False))["max_rel"] is None


@pytest.mark.parametrize("fill", [0.0, math.nan, math.inf])
def test_a_differing_compact_model_is_refused_for_any_second_output(fill: float) -> None:
    model = Network()
    model.fill = fill
    with pytest.raises(CompressError, match="differs from the trained one") as error:
        finish_verified(cast(Method, ShiftsLogits()), model, IMAGES)
    assert error.value.exit is Exit.PARITY
