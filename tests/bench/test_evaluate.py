"""Accuracy of a run or an exported file, on the run's data or on other."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from compress import artifact, data
from compress.bench.evaluate import evaluate_any
from compress.core.errors import CompressError, Exit
from compress.export import export


@pytest.fixture
def other(tmp_path: Path) -> str:
    """Ten classes of gray images 8x8, darker than the digits."""
    rng = np.random.default_rng(0)
    path = tmp_path / "other.npz"
    images = rng.integers(0, 80, (60, 8, 8), dtype=np.uint8)
    np.savez(path, x_train=images, y_train=np.arange(60) % 10, x_test=images, y_test=np.arange(60) % 10)
    return f"npz:{path}"


def by_hand(run: Path, name: str) -> tuple[float, float]:
    """Accuracy and loss on uint8 test images, normalized as in the record of the run."""
    preprocess = artifact.compact_info(run).preprocess
    images = data.load(name, input_size=preprocess.input_size)
    x, y = images.test_arrays()
    own = images.info.preprocess
    pixels = (x * own.std[0] + own.mean[0]).mul(255).round() / 255
    with torch.inference_mode():
        logits = artifact.load(run)((pixels - preprocess.mean[0]) / preprocess.std[0])
    return float((logits.argmax(1) == y).float().mean()), float(F.cross_entropy(logits, y))


def test_a_run_is_evaluated_on_its_own_data(run: Path) -> None:
    result = evaluate_any(run)
    top1, loss = by_hand(run, "digits")
    assert result.result.top1 == pytest.approx(top1)
    assert result.result.loss == pytest.approx(loss, rel=1e-4)
    assert (result.data, result.result.count) == ("digits", 360)


def test_other_data_is_seen_under_the_models_normalisation(run: Path, other: str) -> None:
    assert evaluate_any(run, other).result.loss == pytest.approx(by_hand(run, other)[1], rel=1e-4)


def test_an_exported_file_is_evaluated_like_its_run(run: Path, other: str) -> None:
    path = export(run).path
    for name in ("digits", other):
        file, model = evaluate_any(path, name).result, evaluate_any(run, name).result
        assert file.loss == pytest.approx(model.loss, rel=1e-4)
        assert file.confusion == model.confusion


def test_the_compact_folder_alone_is_enough(run: Path) -> None:
    assert evaluate_any(run / "compact").result == evaluate_any(run).result


def test_the_size_of_the_batches_changes_nothing(run: Path) -> None:
    small, large = (evaluate_any(run, batch_size=size).result for size in (7, 1000))
    assert small.confusion == large.confusion
    assert small.loss == pytest.approx(large.loss)


def test_a_line_a_class_ends_with_its_share(run: Path) -> None:
    result = evaluate_any(run)
    lines = result.lines(confusion=True)
    counts = np.array(result.result.confusion)
    assert len(lines) == 12
    assert lines[-1].endswith(f"{counts[9, 9] / counts[9].sum():.1%}")
    assert result.lines(confusion=False) == lines[:1]


def test_json_has_the_confusion_on_request(run: Path) -> None:
    result = evaluate_any(run)
    assert "confusion" not in result.to_json(confusion=False)
    assert np.sum(result.to_json(confusion=True)["confusion"]) == 360


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there_is_missing(run: Path) -> None:
    with pytest.raises(CompressError, match="'cuda'") as caught:
        evaluate_any(run, device="cuda")
    assert caught.value.exit is Exit.MISSING


def test_an_unknown_device_is_refused(run: Path) -> None:
    with pytest.raises(CompressError, match="'gpu'") as caught:
        evaluate_any(run, device="gpu")
    assert "cuda" in caught.value.hint


def test_another_number_of_classes_is_refused(run: Path, tmp_path: Path) -> None:
    images, labels = np.zeros((6, 8, 8), dtype=np.uint8), np.arange(6) % 3
    np.savez(tmp_path / "three.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    with pytest.raises(CompressError, match=r"has 10 classes.*has 3"):
        evaluate_any(run, f"npz:{tmp_path / 'three.npz'}")


@pytest.mark.parametrize("backend", ["torch", "ort-cpu", "openvino"])
def test_every_back_end_gives_a_run_the_same_accuracy(run: Path, backend: str) -> None:
    result, expected = evaluate_any(run, backend=backend), evaluate_any(run)
    assert result.backend == backend
    assert result.result.confusion == expected.result.confusion
    assert result.result.loss == pytest.approx(expected.result.loss, rel=1e-4)
    assert result.classes == expected.classes


def test_a_file_of_a_fixed_batch_size_is_evaluated_with_it(run: Path) -> None:
    path = export(run, batch=7, samples=16).path
    result = evaluate_any(path, "digits", backend="openvino", threads=1).result
    assert result.confusion == evaluate_any(run).result.confusion


def test_a_back_end_that_does_not_read_the_file_is_refused(run: Path) -> None:
    path = export(run, samples=16).path
    with pytest.raises(CompressError, match="'torch' does not read") as caught:
        evaluate_any(path, "digits", backend="torch")
    assert "ort-cpu" in caught.value.hint


def test_an_exported_file_is_evaluated_on_the_data_of_its_run(run: Path, tmp_path: Path) -> None:
    path = export(run, samples=16).path
    result = evaluate_any(path)
    assert (result.data, result.result.count) == ("digits", 360)
    alone = Path(shutil.copy(path, tmp_path / "alone.onnx"))
    with pytest.raises(CompressError, match=r"alone\.onnx") as caught:
        evaluate_any(alone)
    assert caught.value.code == "no-data"


def test_file_that_does_not_exist_is_named_before_its_data(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="there is no file") as error:
        evaluate_any(tmp_path / "model.onnx")
    assert error.value.code == "missing-file"
