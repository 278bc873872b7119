from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from compress.core.errors import CompressError, Exit
from compress.data import ImageData
from compress.export.onnx.session import OnnxClassifier
from compress.export.parity import check as parity

LABELS = np.array([0, 1, 2, 0], dtype=np.int64)
LOGITS = np.array([[4, 1, 0], [0, 5, 1], [0, 1, 3], [1, 2, 0]], dtype=np.float32)


def test_the_file_of_a_network_agrees_with_it(model: nn.Module, onnx_file: Path, digits: ImageData) -> None:
    x, y = digits.test_arrays(100)
    record = parity.check_parity(model, OnnxClassifier(onnx_file), x.numpy(), y.numpy())
    assert record.passed
    assert record.images == 100
    assert record.agreement == 1.0
    assert record.top1_reference == record.top1_exported > 0.5


def test_a_network_with_one_weight_changed_fails(
    model: nn.Module, onnx_file: Path, digits: ImageData
) -> None:
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.get_parameter("5.bias")[3] += 0.05
    x, y = digits.test_arrays(50)
    record = parity.check_parity(other, OnnxClassifier(onnx_file), x.numpy(), y.numpy())
    assert not record.passed
    assert record.max_abs == pytest.approx(0.05, rel=1e-3)


def test_differences_are_given_absolutely_and_as_a_share_of_the_largest_logit() -> None:
    exported = LOGITS.copy()
    exported[0, 1] += 0.5
    record = parity.compare_logits(LOGITS, exported, LABELS)
    assert record.max_abs == pytest.approx(0.5)
    assert record.max_rel == pytest.approx(0.1)
    assert (record.agreement, record.passed) == (1.0, False)


def test_a_class_that_changes_within_the_tolerance_still_fails() -> None:
    close = np.array([[1.0, 1.00001]], dtype=np.float32)
    record = parity.compare_logits(close, close[:, ::-1].copy(), np.array([1]))
    assert record.max_rel is not None
    assert record.max_rel < parity.MAX_RELATIVE
    assert (record.agreement, record.passed) == (0.0, False)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sides", ["reference", "exported", "both"])
def test_an_output_that_is_not_finite_fails(value: float, sides: str) -> None:
    bad = LOGITS.copy()
    bad[2, 0] = value
    reference = bad if sides != "exported" else LOGITS
    exported = bad.copy() if sides != "reference" else LOGITS
    record = parity.compare_logits(reference, exported, LABELS)
    assert not record.passed
    assert record.max_abs is None
    assert record.max_rel is None
    assert parity.describe_parity(record) == "an output is not finite"


def test_an_infinite_logit_on_both_sides_does_not_hide_a_difference() -> None:
    reference = LOGITS.copy()
    reference[2, 2] = np.inf
    exported = reference.copy()
    exported[0, 1] += 0.33
    assert not parity.compare_logits(reference, exported, LABELS).passed


def test_accuracies_of_both_sides_are_recorded() -> None:
    record = parity.compare_logits(LOGITS, LOGITS[:, ::-1].copy(), LABELS)
    assert record.top1_reference == 0.75
    assert record.top1_exported == 0.25


def test_another_number_of_classes_is_a_parity_error() -> None:
    with pytest.raises(CompressError) as caught:
        parity.compare_logits(LOGITS, LOGITS[:, :2], LABELS)
    assert caught.value.exit is Exit.PARITY


def test_no_images_are_refused(model: nn.Module, onnx_file: Path, images: NDArray[np.float32]) -> None:
    with pytest.raises(CompressError, match="at least one test image"):
        parity.check_parity(model, OnnxClassifier(onnx_file), images[:0], np.zeros(0, np.int64))


def test_the_words_give_the_numbers_and_the_limits() -> None:
    words = parity.describe_parity(parity.compare_logits(LOGITS, LOGITS * 1.5, LABELS))
    assert "0.5 of the largest logit" in words
    assert f"limit {parity.MAX_RELATIVE:.2g}" in words
