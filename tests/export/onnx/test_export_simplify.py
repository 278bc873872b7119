from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from compress.export.onnx import simplify as simplifying
from compress.export.onnx.exporter import to_onnx
from compress.export.onnx.session import OnnxClassifier
from compress.export.onnx.simplify import SimplifyReport, simplify


@pytest.fixture
def wasteful(tmp_path: Path) -> Path:
    return save_wasteful(tmp_path)


@pytest.fixture(scope="module")
def simplified(
    images: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, SimplifyReport, NDArray[np.float32]]:
    """That network simplified, the report, and its logits before. Not to be changed."""
    path = save_wasteful(tmp_path_factory.mktemp("simplified"))
    before = OnnxClassifier(path).logits(images)
    return path, simplify(path, images), before


def save_wasteful(folder: Path) -> Path:
    """Write a classifier whose weight is the sum of two constants, through nodes that do nothing."""
    shape = [None, 1, 8, 8]
    nodes = [
        helper.make_node("Identity", ["input"], ["same"]),
        helper.make_node("Flatten", ["same"], ["flat"]),
        helper.make_node("Add", ["w1", "w2"], ["w"]),
        helper.make_node("MatMul", ["flat", "w"], ["product"]),
        helper.make_node("Identity", ["product"], ["logits"]),
    ]
    noise = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(noise.standard_normal((64, 10)).astype(np.float32), name)
        for name in ("w1", "w2")
    ]
    graph = helper.make_graph(
        nodes,
        "wasteful",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, 10])],
        weights,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(proto, {"compress.run": "demo"})
    onnx.save(proto, str(folder / "model.onnx"))
    return folder / "model.onnx"


Simplified = tuple[Path, SimplifyReport, NDArray[np.float32]]


def test_a_smaller_and_equal_result_is_kept(simplified: Simplified, images: NDArray[np.float32]) -> None:
    path, report, before = simplified
    assert report.kept
    assert report.nodes_after is not None
    assert report.nodes_after < report.nodes_before == 5
    assert path.stat().st_size == report.bytes_after
    np.testing.assert_allclose(OnnxClassifier(path).logits(images), before, rtol=1e-5, atol=1e-5)


def test_the_metadata_survives(simplified: Simplified) -> None:
    path, report, _ = simplified
    assert report.kept
    entries = onnx.load(str(path)).metadata_props
    assert {entry.key: entry.value for entry in entries} == {"compress.run": "demo"}


def test_nothing_else_is_left_in_the_folder(simplified: Simplified) -> None:
    path, _, _ = simplified
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]


def test_a_simplifier_that_takes_too_long_is_stopped_and_the_file_stays(
    wasteful: Path, images: NDArray[np.float32]
) -> None:
    before = wasteful.read_bytes()
    report = simplify(wasteful, images, timeout_s=0.05)
    assert not report.kept
    assert "longer than 0.05 seconds" in report.reason
    assert wasteful.read_bytes() == before


def test_a_result_with_other_outputs_is_dropped(
    wasteful: Path, images: NDArray[np.float32], tmp_path: Path
) -> None:
    other = tmp_path / "other.onnx"
    to_onnx(nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False)), torch.zeros(1, 1, 8, 8), other)
    report = simplifying._compare(wasteful, other, images, None)
    assert not report.kept
    assert "outputs differ" in report.reason


def test_a_result_that_is_not_smaller_is_dropped(wasteful: Path, images: NDArray[np.float32]) -> None:
    copy = Path(shutil.copy(wasteful, wasteful.with_name("copy.onnx")))
    report = simplifying._compare(wasteful, copy, images, None)
    assert not report.kept
    assert "not smaller" in report.reason


def test_a_result_with_another_interface_is_dropped(
    wasteful: Path, images: NDArray[np.float32], tmp_path: Path
) -> None:
    other = tmp_path / "other.onnx"
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False))
    to_onnx(net, torch.zeros(1, 1, 8, 8), other, batch=40)
    report = simplifying._compare(wasteful, other, images, None)
    assert "changed the inputs or outputs" in report.reason


def test_a_damaged_result_is_dropped(wasteful: Path, images: NDArray[np.float32], tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(wasteful.read_bytes()[:500])
    report = simplifying._compare(wasteful, tmp_path / "bad.onnx", images, None)
    assert not report.kept


def test_a_failing_simplifier_is_reported_by_its_last_line(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    failure = simplifying._run_onnxsim(tmp_path / "bad.onnx", tmp_path / "out.onnx", 60)
    assert failure is not None
    assert "status" in failure


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_result_with_values_that_are_not_finite_differs_infinitely(value: float) -> None:
    bad = np.array([[1.0, value]], dtype=np.float32)
    good = np.array([[1.33, 1.0]], dtype=np.float32)
    for before, after in ((bad, good), (good, bad), (bad, bad.copy())):
        assert simplifying._relative_difference(before, after) == np.inf
