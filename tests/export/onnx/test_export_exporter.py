from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from compress.core.errors import CompressError, Exit
from compress.export.onnx.exporter import opset_of, to_onnx

EXAMPLE = torch.zeros(1, 1, 8, 8)


class FixedBatch(nn.Module):
    """Model whose forward has a hard-coded batch size of two."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x.reshape(2, 64))
        return out


class Branching(nn.Module):
    """Model with data-dependent control flow, which cannot be exported."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) if float(x.sum()) > 0 else -x.flatten(1)


def test_names_and_shapes_of_the_file_are_the_promised_ones(onnx_file: Path) -> None:
    graph = onnx.load(str(onnx_file)).graph
    assert [value.name for value in graph.input] == ["input"]
    assert [value.name for value in graph.output] == ["logits"]
    shape = graph.input[0].type.tensor_type.shape.dim
    assert shape[0].dim_param == "batch"
    assert [size.dim_value for size in shape[1:]] == [1, 8, 8]


def test_a_fixed_batch_size_is_written_into_the_file(model: nn.Module, tmp_path: Path) -> None:
    to_onnx(model, EXAMPLE, tmp_path / "m.onnx", batch=3)
    graph = onnx.load(str(tmp_path / "m.onnx")).graph
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_value == 3
    assert graph.output[0].type.tensor_type.shape.dim[0].dim_value == 3


@pytest.mark.parametrize("opset", [18, 20])
def test_the_file_has_the_requested_opset(model: nn.Module, tmp_path: Path, opset: int) -> None:
    assert to_onnx(model, EXAMPLE, tmp_path / "m.onnx", opset=opset) == opset
    assert opset_of(onnx.load(str(tmp_path / "m.onnx"))) == opset


def test_an_opset_that_is_not_written_fails_naming_both_and_leaves_no_file(
    model: nn.Module, tmp_path: Path
) -> None:
    with pytest.raises(CompressError) as caught:
        to_onnx(model, EXAMPLE, tmp_path / "m.onnx", opset=11)
    assert caught.value.exit is Exit.BUILD
    result = caught.value.details["found"]
    assert result != 11
    assert f"opset {result}" in caught.value.message
    assert "opset 11" in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_a_forward_that_fixes_the_batch_size_is_refused_as_dynamic(tmp_path: Path) -> None:
    with pytest.raises(CompressError) as caught:
        to_onnx(FixedBatch(), EXAMPLE, tmp_path / "m.onnx")
    assert caught.value.exit is Exit.BUILD
    assert "--batch" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_forward_that_fixes_the_batch_size_exports_with_that_size(tmp_path: Path) -> None:
    to_onnx(FixedBatch(), EXAMPLE, tmp_path / "m.onnx", batch=2)
    assert (tmp_path / "m.onnx").is_file()


def test_a_forward_that_cannot_be_traced_is_a_build_error(tmp_path: Path) -> None:
    with pytest.raises(CompressError) as caught:
        to_onnx(Branching(), EXAMPLE, tmp_path / "m.onnx")
    assert caught.value.exit is Exit.BUILD
    assert caught.value.code == "export-failed"
    assert "\n" not in caught.value.message


def test_a_batch_size_of_zero_is_refused(model: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="at least 1, not 0"):
        to_onnx(model, EXAMPLE, tmp_path / "m.onnx", batch=0)


def test_exporting_prints_nothing(
    model: nn.Module, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CompressError):
        to_onnx(model, EXAMPLE, tmp_path / "m.onnx", opset=11)
    to_onnx(model, EXAMPLE, tmp_path / "m.onnx")
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_exporting_leaves_the_modes_of_the_modules_as_they_were(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10)).train()
    net[1].eval()
    to_onnx(net, EXAMPLE, tmp_path / "m.onnx")
    assert [module.training for module in net] == [True, False, True, True]


def test_two_exports_of_a_model_have_the_same_bytes(
    model: nn.Module, onnx_file: Path, tmp_path: Path
) -> None:
    to_onnx(model, EXAMPLE, tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_bytes() == onnx_file.read_bytes()


def test_the_file_tells_no_path_of_the_machine(onnx_file: Path) -> None:
    assert str(Path(torch.__file__).parent).encode() not in onnx_file.read_bytes()


def test_the_weights_are_inside_the_one_file(model: nn.Module, tmp_path: Path) -> None:
    to_onnx(model, EXAMPLE, tmp_path / "m.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_metadata_is_in_the_file(model: nn.Module, tmp_path: Path) -> None:
    to_onnx(model, EXAMPLE, tmp_path / "m.onnx", metadata={"compress.run": "demo"})
    entries = onnx.load(str(tmp_path / "m.onnx")).metadata_props
    assert {entry.key: entry.value for entry in entries} == {"compress.run": "demo"}
