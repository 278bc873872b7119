"""The exactness check fails wherever it cannot compare: NaN, infinity, other shapes, or no values."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pytest
import torch
from exactness import traced
from families import Net, block
from torch import Tensor, nn

from compress.core.errors import CompressError, Exit
from compress.planning import make_plan
from compress.slicing import VerifyReport, compare, difference, slice_model, verify

TOLERANCE = 1e-5
NOT_FINITE = [math.nan, math.inf, -math.inf]


def _difference(reference: Sequence[Tensor], other: Sequence[Tensor]) -> VerifyReport:
    return difference(list(reference), list(other), samples=2, tolerance=TOLERANCE)


def _outputs(first: float, second: float) -> list[Tensor]:
    return [torch.tensor([[1.0, first]]), torch.tensor([[2.0, second, 0.5]])]


@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize("sides", ["reference", "other", "both"])
@pytest.mark.parametrize("position", [0, 1])
def test_a_value_that_is_not_finite_fails_the_check(value: float, sides: str, position: int) -> None:
    bad = [1.0, 1.0]
    bad[position] = value
    reference = _outputs(*bad) if sides != "other" else _outputs(1.0, 1.0)
    other = _outputs(*bad) if sides != "reference" else _outputs(1.0, 1.0)
    assert not _difference(reference, other).passed


def test_an_infinite_second_output_does_not_hide_a_difference_in_the_first() -> None:
    report = _difference(_outputs(1.0, math.inf), _outputs(1.33, math.inf))
    assert not report.passed


def test_a_nan_in_the_second_output_does_not_hide_a_difference_in_the_first() -> None:
    assert not _difference(_outputs(1.0, math.nan), _outputs(1.33, math.nan)).passed


def test_a_difference_that_cannot_be_computed_is_reported_as_infinite_and_as_null_in_json() -> None:
    report = _difference(_outputs(1.0, math.nan), _outputs(1.0, 1.0))
    assert report.max_abs == report.max_rel == math.inf
    record = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert record == {"max_abs": None, "max_rel": None, "samples": 2, "tolerance": 1e-5, "passed": False}
    assert "not finite" in report.describe()


def test_a_difference_is_reported_absolutely_and_relative_to_the_largest_output() -> None:
    report = _difference(_outputs(1.0, 4.0), _outputs(1.5, 4.0))
    assert (report.max_abs, report.max_rel, report.passed) == (0.5, 0.125, False)
    assert report.to_json()["max_rel"] == 0.125
    assert report.describe() == "largest relative difference 0.125, allowed 1e-05"


def test_equal_outputs_pass() -> None:
    report = _difference(_outputs(1.0, 4.0), _outputs(1.0, 4.0))
    assert (report.max_abs, report.max_rel, report.passed) == (0.0, 0.0, True)


def test_outputs_of_zeros_are_compared_absolutely() -> None:
    zeros = [torch.zeros(2, 3)]
    assert _difference(zeros, zeros).passed
    assert not _difference(zeros, [zeros[0] + 1e-3]).passed


def test_an_empty_output_is_compared_by_its_shape_only() -> None:
    empty, filled = torch.zeros(0, 4), torch.ones(2, 4)
    assert _difference([empty, filled], [empty, filled]).passed
    assert not _difference([empty, filled], [empty, filled + 1]).passed


@pytest.mark.parametrize("outputs", [[], [torch.zeros(0, 4)]], ids=["no tensor", "empty tensor"])
def test_outputs_without_values_are_refused(outputs: list[Tensor]) -> None:
    with pytest.raises(CompressError, match="cannot be compared") as error:
        _difference(outputs, outputs)
    assert error.value.exit is Exit.PARITY


def test_outputs_of_other_shapes_are_refused() -> None:
    with pytest.raises(CompressError, match="shapes") as error:
        _difference([torch.zeros(2, 3)], [torch.zeros(2, 4)])
    assert error.value.exit is Exit.PARITY


class TwoOutputs(Net):
    """Logits, and a second output that is `fill` in every position."""

    def __init__(self, fill: float) -> None:
        super().__init__()
        self.fill = fill

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.classify(self.b(self.a(x)))
        return logits, torch.full_like(logits, self.fill)


@pytest.mark.parametrize("fill", NOT_FINITE)
def test_compare_fails_if_networks_with_an_output_that_is_not_finite_differ(fill: float) -> None:
    torch.manual_seed(0)
    reference, other = TwoOutputs(fill), TwoOutputs(fill)
    other.load_state_dict(reference.state_dict())
    with torch.no_grad():
        other.head.bias.add_(0.33)
    assert not compare(reference, other, (torch.randn(2, 3, 8, 8),)).passed


@pytest.mark.parametrize(("fill", "passed"), [(1.0, True), (math.nan, False), (math.inf, False)])
def test_verify_fails_if_an_output_of_an_exact_slice_is_not_finite(fill: float, passed: bool) -> None:
    torch.manual_seed(0)
    model, images = TwoOutputs(1.0), torch.randn(2, 3, 8, 8)
    plan = make_plan(traced(model, images), keep=0.5)
    model.fill = fill
    assert verify(model, plan, slice_model(model, plan), images).passed is passed


def test_verify_fails_if_trained_weights_are_nan() -> None:
    torch.manual_seed(0)
    model, images = nn.Sequential(block(3, 8), block(8, 4)), torch.randn(2, 3, 8, 8)
    plan = make_plan(traced(model, images), keep=0.5)
    with torch.no_grad():
        model[1][0].weight.fill_(math.nan)
    assert not verify(model, plan, slice_model(model, plan), images).passed
