"""Accuracy and loss against their definitions."""

from __future__ import annotations

from collections import namedtuple

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compress.core.errors import CompressError
from compress.training import evaluate


def batches(images: torch.Tensor, labels: torch.Tensor, size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(zip(images.split(size), labels.split(size), strict=True))


@pytest.fixture
def problem() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 7)), torch.randn(50, 3, 2, 2), torch.randint(0, 7, (50,))


Problem = tuple[nn.Module, torch.Tensor, torch.Tensor]


def test_result_equals_one_pass_over_all_images(problem: Problem) -> None:
    model, images, labels = problem
    logits = model(images).detach()
    ranks = (logits > logits.gather(1, labels[:, None])).sum(1)
    result = evaluate(model, batches(images, labels, 8), "cpu", 7)
    assert result.top1 == pytest.approx(float((ranks < 1).float().mean()))
    assert result.top5 == pytest.approx(float((ranks < 5).float().mean()))
    assert result.loss == pytest.approx(float(F.cross_entropy(logits, labels)))
    assert result.count == 50 and result.confusion is None


def test_confusion_has_labels_in_rows_and_predictions_in_columns(problem: Problem) -> None:
    model, images, labels = problem
    expected = torch.zeros(7, 7, dtype=torch.int64)
    for label, guess in zip(labels, model(images).argmax(1), strict=True):
        expected[label, guess] += 1
    result = evaluate(model, batches(images, labels, 16), "cpu", 7, confusion=True)
    assert result.confusion == expected.tolist()


def test_with_fewer_than_five_classes_top5_is_all() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    data = batches(torch.randn(10, 1, 2, 2), torch.randint(0, 3, (10,)), 4)
    assert evaluate(model, data, "cpu", 3).top5 == 1.0


def test_mode_of_the_model_is_restored(problem: Problem) -> None:
    model, images, labels = problem
    model.train()
    evaluate(model, batches(images, labels, 8), "cpu", 7)
    assert model.training


def test_first_of_several_outputs_are_the_scores(problem: Problem) -> None:
    model, images, labels = problem
    output = namedtuple("output", ["logits", "aux"])

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: torch.Tensor) -> object:
            return output(self.inner(x), torch.zeros(1))

    plain = evaluate(model, batches(images, labels, 8), "cpu", 7)
    assert evaluate(Two(), batches(images, labels, 8), "cpu", 7) == plain


def test_no_images_is_an_error(problem: Problem) -> None:
    with pytest.raises(CompressError, match="no images"):
        evaluate(problem[0], [], "cpu", 7)
