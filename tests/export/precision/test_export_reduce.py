from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from compress.core.errors import CompressError, Exit
from compress.data import ImageData
from compress.export import evaluate_onnx
from compress.export.formats.openvino import compile_settings
from compress.export.onnx.exporter import to_onnx
from compress.export.onnx.session import OnnxClassifier
from compress.export.options import Precision
from compress.export.precision.deviation import layer_deviations
from compress.export.precision.emulate import EmulatedClassifier
from compress.export.precision.half import to_half
from compress.export.precision.onnx_graph import load_onnx
from compress.export.precision.ranges import LARGEST, largest_values
from compress.export.precision.reduce import reduce_precision

Images = NDArray[np.float32]


@pytest.fixture(scope="module")
def reduced(residual_onnx: Path, calibration: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the residual network in every precision."""
    folder = tmp_path_factory.mktemp("reduced")
    reduce_precision(residual_onnx, folder / "fp16.onnx", "fp16", calibration)
    reduce_precision(residual_onnx, folder / "int8.onnx", "int8", calibration)
    model = onnx.version_converter.convert_version(onnx.load(str(residual_onnx)), 22)
    onnx.save(model, str(folder / "opset22.onnx"))
    reduce_precision(folder / "opset22.onnx", folder / "bf16.onnx", "bf16", calibration)
    return folder


@pytest.fixture
def loud(tmp_path: Path) -> Path:
    """A network whose inner values pass FP16's largest number and come back."""
    one = np.ones((4, 1, 1, 1), np.float32)
    weights = {"up": one * 5e4, "down": np.full((2, 4, 1, 1), 1e-5, np.float32)}
    weights["last"] = one.reshape(2, 2, 1, 1)
    nodes = [
        helper.make_node("Conv", ["input", "up"], ["high"], name="raise"),
        helper.make_node("Relu", ["high"], ["positive"], name="relu"),
        helper.make_node("Conv", ["positive", "down"], ["low"], name="lower"),
        helper.make_node("Conv", ["low", "last"], ["mixed"], name="mix"),
        helper.make_node("Flatten", ["mixed"], ["logits"], name="flatten"),
    ]
    graph = helper.make_graph(
        nodes,
        "loud",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, 1, 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10),
        str(tmp_path / "loud.onnx"),
    )
    return tmp_path / "loud.onnx"


LOUD = np.array([[[[1.0, 3.0]]], [[[4.0, 2.0]]]], dtype=np.float32)


def _operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(str(path)).graph.node)


def _weights(path: Path) -> dict[str, Any]:
    return {weight.name: weight for weight in onnx.load(str(path)).graph.initializer}


@pytest.mark.parametrize("name", ["fp16", "bf16", "int8"])
def test_inputs_and_outputs_stay_float32(reduced: Path, name: str) -> None:
    graph = onnx.load(str(reduced / f"{name}.onnx")).graph
    values = (*graph.input, *graph.output)
    assert [value.name for value in values] == ["input", "logits"]
    assert {value.type.tensor_type.elem_type for value in values} == {TensorProto.FLOAT}


@pytest.mark.parametrize("name", ["fp16", "bf16", "int8"])
def test_the_metadata_of_the_file_is_kept(reduced: Path, name: str) -> None:
    entries = onnx.load(str(reduced / f"{name}.onnx")).metadata_props
    assert {entry.key: entry.value for entry in entries} == {"compress.run": "demo"}


@pytest.mark.parametrize(("name", "kind"), [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)])
def test_every_weight_of_a_16_bit_file_has_16_bits(reduced: Path, name: str, kind: int) -> None:
    floats = [w for w in _weights(reduced / f"{name}.onnx").values() if w.data_type != TensorProto.INT64]
    assert floats
    assert {weight.data_type for weight in floats} == {kind}


def test_bf16_weights_are_rounded_from_float32_and_not_from_fp16(reduced: Path) -> None:
    full, half = _weights(reduced / "opset22.onnx"), _weights(reduced / "bf16.onnx")
    name = next(name for name, weight in full.items() if weight.data_type == TensorProto.FLOAT)
    expected = numpy_helper.to_array(full[name]).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(numpy_helper.to_array(half[name]), expected)


@pytest.mark.parametrize(("name", "largest"), [("fp16", 2e-3), ("bf16", 3e-2)])
def test_a_16_bit_network_computes_the_same_to_its_digits(
    residual_onnx: Path, reduced: Path, images: Images, name: str, largest: float
) -> None:
    full = OnnxClassifier(residual_onnx).logits(images)
    half = EmulatedClassifier(reduced / f"{name}.onnx").logits(images)
    assert 0 < np.abs(half - full).max() / np.abs(full).max() < largest


def test_the_emulation_rounds_as_openvino_does(reduced: Path, images: Images) -> None:
    openvino = pytest.importorskip("openvino")
    compiled = openvino.Core().compile_model(str(reduced / "fp16.onnx"), "CPU", compile_settings("fp16"))
    ours = EmulatedClassifier(reduced / "fp16.onnx").logits(images)
    np.testing.assert_allclose(ours, compiled(images)[0], atol=5e-3 * np.abs(ours).max())


def test_layers_that_overflow_stay_in_float32_and_are_named(loud: Path, tmp_path: Path) -> None:
    report = reduce_precision(loud, tmp_path / "m.onnx", "fp16", LOUD)
    kept = {node["node"]: node for node in report["float_nodes"]}
    assert kept.keys() == {"raise", "relu", "lower"}
    assert {node["reason"] for node in kept.values()} == {"overflow"}
    assert kept["raise"]["largest"] == pytest.approx(2e5)
    expected = EmulatedClassifier(loud).logits(LOUD)
    np.testing.assert_allclose(EmulatedClassifier(tmp_path / "m.onnx").logits(LOUD), expected, rtol=2e-3)


def test_nothing_is_cast_to_16_bits_between_two_layers_in_float32(loud: Path, tmp_path: Path) -> None:
    reduce_precision(loud, tmp_path / "m.onnx", "fp16", LOUD)
    order = [node.op_type for node in onnx.load(str(tmp_path / "m.onnx")).graph.node]
    assert order == ["Conv", "Relu", "Conv", "Cast", "Conv", "Flatten", "Cast"]


def test_the_emulation_shows_an_overflow_that_onnx_runtime_hides(loud: Path, tmp_path: Path) -> None:
    onnx.save(to_half(load_onnx(loud), "fp16", []), str(tmp_path / "m.onnx"))
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    assert np.isfinite(session.run(None, {"input": LOUD})[0]).all()
    assert not np.isfinite(EmulatedClassifier(tmp_path / "m.onnx").logits(LOUD)).all()


def test_the_largest_values_are_those_of_all_images(loud: Path) -> None:
    result = largest_values(load_onnx(loud), LOUD)
    assert result["high"] == result["positive"] > LARGEST
    assert result["high"] == pytest.approx(2e5)
    assert result["up"] == pytest.approx(5e4)
    assert result["input"] == 4.0


def test_an_operator_without_bfloat16_stays_in_float32(tmp_path: Path) -> None:
    nodes = [helper.make_node("HardSwish", ["input"], ["a"], name="swish")]
    nodes.append(helper.make_node("Flatten", ["a"], ["logits"], name="flatten"))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, 1, 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    onnx.save(model, str(tmp_path / "full.onnx"))
    report = reduce_precision(tmp_path / "full.onnx", tmp_path / "m.onnx", "bf16", LOUD)
    assert [(node["node"], node["reason"]) for node in report["float_nodes"]] == [("swish", "unsupported")]


def test_int8_zero_points_are_zero_and_weights_have_a_scale_a_channel(reduced: Path) -> None:
    model = onnx.load(str(reduced / "int8.onnx"))
    weights = _weights(reduced / "int8.onnx")
    pairs = [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs
    assert not any(numpy_helper.to_array(weights[node.input[2]]).any() for node in pairs)
    constant = [n for n in pairs if n.op_type == "DequantizeLinear" and n.input[0] in weights]
    assert {numpy_helper.to_array(weights[node.input[1]]).shape for node in constant} == {(16,)}
    assert not any(weight.data_type == TensorProto.INT32 for weight in weights.values())


def test_int8_leaves_the_first_and_the_last_layer_in_float32(
    residual_onnx: Path, calibration: Images, tmp_path: Path
) -> None:
    inner = reduce_precision(residual_onnx, tmp_path / "a.onnx", "int8", calibration)
    all_ = reduce_precision(residual_onnx, tmp_path / "b.onnx", "int8", calibration, quantize_ends=True)
    graph = onnx.load(str(residual_onnx)).graph
    layers = [node.name for node in graph.node if node.op_type in ("Conv", "Gemm")]
    assert inner["float_layers"] == [layers[0], layers[-1]]
    assert (inner["layers"], inner["additions"]) == (len(layers) - 2, 1)
    assert (all_["float_layers"], all_["layers"]) == ([], len(layers))
    assert (
        _operators(tmp_path / "b.onnx")["QuantizeLinear"] > _operators(tmp_path / "a.onnx")["QuantizeLinear"]
    )


def test_int8_accuracy_on_the_digits_is_within_a_point_of_float32(
    residual_onnx: Path, reduced: Path, digits: ImageData
) -> None:
    full = evaluate_onnx(residual_onnx, digits)
    assert full.top1 > 0.9
    assert evaluate_onnx(reduced / "int8.onnx", digits).top1 >= full.top1 - 0.01


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_an_empty_calibration_set_is_refused(
    residual_onnx: Path, calibration: Images, tmp_path: Path, precision: Precision
) -> None:
    with pytest.raises(CompressError, match="calibration set is empty") as caught:
        reduce_precision(residual_onnx, tmp_path / "m.onnx", precision, calibration[:0])
    assert caught.value.exit is Exit.USAGE
    assert list(tmp_path.iterdir()) == []


def test_a_fixed_batch_larger_than_the_calibration_set_is_filled(
    residual: Any, calibration: Images, tmp_path: Path
) -> None:
    to_onnx(residual, torch.zeros(1, 1, 8, 8), tmp_path / "full.onnx", batch=7)
    report = reduce_precision(tmp_path / "full.onnx", tmp_path / "m.onnx", "int8", calibration[:3])
    assert report["calibration_images"] == 3
    assert OnnxClassifier(tmp_path / "m.onnx").batch == 7


def test_the_layer_that_loses_most_is_the_one_that_was_damaged(
    residual_onnx: Path, reduced: Path, images: Images, tmp_path: Path
) -> None:
    model = onnx.load(str(reduced / "fp16.onnx"))
    victim = [node for node in model.graph.node if node.op_type == "Conv"][2]
    weight = next(weight for weight in model.graph.initializer if weight.name == victim.input[1])
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float16(1.5), weight.name))
    onnx.save(model, str(tmp_path / "m.onnx"))
    losses = layer_deviations(residual_onnx, tmp_path / "m.onnx", images)
    assert losses[0].node == victim.name
    assert losses[0].alone == pytest.approx(0.5, abs=0.2)
    assert max(loss.alone or 0.0 for loss in losses[1:]) < 1e-2


def test_a_layer_that_overflows_comes_before_all_that_lose_digits(loud: Path, tmp_path: Path) -> None:
    onnx.save(to_half(load_onnx(loud), "fp16", []), str(tmp_path / "m.onnx"))
    losses = layer_deviations(loud, tmp_path / "m.onnx", LOUD)
    assert (losses[0].node, losses[0].alone) == ("raise", None)
