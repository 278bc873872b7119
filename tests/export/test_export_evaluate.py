from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compress import data
from compress.core.errors import CompressError, Exit
from compress.data import ImageData
from compress.export import evaluate_onnx, to_onnx
from compress.export.onnx.session import OnnxClassifier, open_session
from compress.export.trust.onnx_metadata import META_CLASSES, META_PREPROCESS

EXAMPLE = torch.zeros(1, 1, 8, 8)


def test_accuracy_and_loss_are_those_of_the_network(
    model: nn.Module, onnx_file: Path, digits: ImageData
) -> None:
    x, y = digits.test_arrays(None)
    with torch.inference_mode():
        logits = model(x)
    result = evaluate_onnx(onnx_file, digits, 50)
    assert result.count == len(y) == digits.info.test_size
    assert result.top1 == pytest.approx(float((logits.argmax(1) == y).double().mean()))
    five = (logits.topk(5).indices == y[:, None]).any(1)
    assert result.top5 == pytest.approx(float(five.double().mean()))
    assert result.loss == pytest.approx(float(F.cross_entropy(logits, y)), rel=1e-4)


def test_confusion_counts_rows_of_true_classes(onnx_file: Path, digits: ImageData) -> None:
    result = evaluate_onnx(onnx_file, digits)
    labels = digits.test_arrays(None)[1].numpy()
    np.testing.assert_array_equal(np.sum(result.confusion, axis=1), np.bincount(labels, minlength=10))
    assert np.trace(np.asarray(result.confusion)) == round(result.top1 * result.count)


def test_a_file_of_fixed_batch_size_sees_every_image(
    model: nn.Module, onnx_file: Path, digits: ImageData, tmp_path: Path
) -> None:
    to_onnx(model, EXAMPLE, tmp_path / "fixed.onnx", batch=7)
    assert digits.info.test_size % 7 != 0
    fixed, free = evaluate_onnx(tmp_path / "fixed.onnx", digits), evaluate_onnx(onnx_file, digits)
    assert (fixed.count, fixed.top1, fixed.confusion) == (free.count, free.top1, free.confusion)


def test_a_missing_file_is_named(tmp_path: Path, digits: ImageData) -> None:
    with pytest.raises(CompressError, match=r"gone\.onnx") as caught:
        evaluate_onnx(tmp_path / "gone.onnx", digits)
    assert caught.value.exit is Exit.MISSING


@pytest.mark.parametrize("content", [b"", b"no model", None], ids=["empty", "text", "truncated"])
def test_a_damaged_file_is_named(
    onnx_file: Path, tmp_path: Path, digits: ImageData, content: bytes | None
) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(onnx_file.read_bytes()[:3000] if content is None else content)
    with pytest.raises(CompressError, match=r"bad\.onnx") as caught:
        evaluate_onnx(path, digits)
    assert caught.value.exit is Exit.MISSING
    assert "\n" not in caught.value.message


def test_another_number_of_classes_is_refused_with_both_numbers(tmp_path: Path, digits: ImageData) -> None:
    to_onnx(nn.Sequential(nn.Flatten(), nn.Linear(64, 7)), EXAMPLE, tmp_path / "m.onnx")
    with pytest.raises(CompressError, match=r"7 classes.*has 10") as caught:
        evaluate_onnx(tmp_path / "m.onnx", digits)
    assert caught.value.exit is Exit.USAGE


def test_another_image_size_is_refused_with_both_sizes(onnx_file: Path) -> None:
    wide = data.load("digits", input_size=(1, 16, 16))
    with pytest.raises(CompressError, match=r"\[1, 8, 8\].*\[1, 16, 16\]"):
        evaluate_onnx(onnx_file, wide)


def test_a_network_that_is_no_classifier_is_refused(tmp_path: Path, digits: ImageData) -> None:
    to_onnx(nn.Conv2d(1, 4, 3), EXAMPLE, tmp_path / "m.onnx")
    with pytest.raises(CompressError, match="not an image classifier"):
        evaluate_onnx(tmp_path / "m.onnx", digits)


def test_other_preprocessing_and_classes_are_warned_of(
    model: nn.Module, tmp_path: Path, digits: ImageData, caplog: pytest.LogCaptureFixture
) -> None:
    other = digits.info.preprocess.model_copy(update={"mean": (0.9,)})
    meta = {META_PREPROCESS: other.model_dump_json(), META_CLASSES: '["a", "b"]'}
    to_onnx(model, EXAMPLE, tmp_path / "m.onnx", metadata=meta)
    with caplog.at_level(logging.WARNING):
        evaluate_onnx(tmp_path / "m.onnx", digits)
    messages = [entry.getMessage() for entry in caplog.records if entry.name == "compress.export.evaluate"]
    assert len(messages) == 2


def test_metadata_that_cannot_be_read_is_an_error(model: nn.Module, tmp_path: Path) -> None:
    to_onnx(model, EXAMPLE, tmp_path / "m.onnx", metadata={META_CLASSES: "[1,"})
    with pytest.raises(CompressError, match="metadata"):
        OnnxClassifier(tmp_path / "m.onnx")


def test_a_provider_that_is_not_here_is_an_error(onnx_file: Path) -> None:
    with pytest.raises(CompressError, match="DmlExecutionProvider") as caught:
        open_session(onnx_file, providers=("DmlExecutionProvider", "CPUExecutionProvider"))
    assert caught.value.exit is Exit.MISSING


@pytest.mark.skipif(torch.cuda.is_available(), reason="the CUDA provider works here")
def test_a_provider_that_falls_back_in_silence_is_an_error(onnx_file: Path) -> None:
    with pytest.raises(CompressError, match="CUDAExecutionProvider") as caught:
        open_session(onnx_file, providers=("CUDAExecutionProvider", "CPUExecutionProvider"))
    assert caught.value.exit is Exit.MISSING
