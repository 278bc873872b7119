from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from compress.core.errors import CompressError, Exit
from compress.core.files import sha256_file
from compress.export import export
from compress.export.formats.openvino import OpenVINOClassifier, OpenVINOFormat
from compress.export.options import BatchRange, Options, Precision
from compress.export.trust import manifest
from compress.export.types import OnnxSource

openvino = pytest.importorskip("openvino")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_compiled_network_is_the_last_link(residual_run: Path, precision: Precision) -> None:
    record = export(residual_run, "openvino", samples=64, calib_images=32, precision=precision).record
    link = record.details["chain"][-1]
    assert (link["name"], link["status"], link["runner"]) == (record.file, "passed", "OpenVINO")
    assert link["against"] == f"onnx-{precision}"
    assert record.details["parity_of"] == record.file == f"model.{precision}.xml"
    assert record.details["build"]["runtime"] == "openvino"


def test_both_files_are_released_and_recorded(residual_run: Path) -> None:
    record = export(residual_run, "openvino", samples=8).record
    folder = residual_run / "export"
    assert {path.name for path in folder.iterdir()} == {"model.fp32.xml", "model.fp32.bin", "manifest.json"}
    (weights,) = record.companions
    assert weights.file == "model.fp32.bin"
    assert weights.sha256 == sha256_file(folder / weights.file)
    assert weights.bytes == (folder / weights.file).stat().st_size
    assert manifest.verified_record(folder, "model.fp32.xml") == record


def test_a_float32_file_is_computed_in_float32_and_not_in_bf16(
    residual: nn.Module, residual_run: Path, images: NDArray[np.float32]
) -> None:
    path = export(residual_run, "openvino", samples=8).path
    with torch.inference_mode():
        expected = residual(torch.from_numpy(images)).numpy()
    result = OpenVINOClassifier(path, "fp32").logits(images)
    assert np.abs(result - expected).max() / np.abs(expected).max() < 1e-5


def test_int8_layers_stay_int8_in_the_file(residual_run: Path) -> None:
    path = export(residual_run, "openvino", samples=8, calib_images=16, precision="int8").path
    types = {
        output.get_element_type().get_type_name()
        for node in openvino.Core().read_model(str(path)).get_ops()
        for output in node.outputs()
    }
    assert "i8" in types


@pytest.mark.parametrize(("batch", "count"), [(BatchRange(2, 4, 8), 21), (4, 7)])
def test_any_number_of_images_goes_through_a_limited_batch(
    residual_run: Path, residual: nn.Module, images: NDArray[np.float32], batch: int | BatchRange, count: int
) -> None:
    path = export(residual_run, "openvino", batch=batch, samples=8).path
    model = OpenVINOClassifier(path, "fp32")
    assert model.batch == (batch if isinstance(batch, int) else None)
    with torch.inference_mode():
        expected = residual(torch.from_numpy(images[:count])).numpy()
    np.testing.assert_allclose(model.logits(images[:count]), expected, atol=1e-4)


def test_a_network_whose_weights_are_damaged_is_rejected_with_both_files(
    residual_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = openvino.save_model

    def damaging(model: Any, path: str, **more: Any) -> None:
        save(model, path, **more)
        weights = Path(path).with_suffix(".bin")
        content = bytearray(weights.read_bytes())
        content[3:259:4] = bytes(byte ^ 0x80 for byte in content[3:259:4])  # signs of the first 64 floats
        weights.write_bytes(content)

    monkeypatch.setattr(openvino, "save_model", damaging)
    with pytest.raises(CompressError, match=r"between onnx-fp32 and model\.fp32\.xml"):
        export(residual_run, "openvino", samples=8)
    names = {path.name for path in (residual_run / "export").iterdir()}
    assert names == {"model.fp32.xml.rejected", "model.fp32.xml.rejected.json", "model.fp32.bin.rejected"}


def test_an_operator_openvino_has_not_is_named_with_its_own_words(determinant: Path, tmp_path: Path) -> None:
    source = OnnxSource(determinant, determinant, "fp32", 20, (), (), {})
    job: Any = SimpleNamespace(options=Options())
    with pytest.raises(CompressError, match=r"'the_determinant' \(Det\).*No conversion rule") as caught:
        OpenVINOFormat().build(job, source, tmp_path / "m.xml")
    assert (caught.value.code, caught.value.exit) == ("unsupported", Exit.BUILD)
    assert not (tmp_path / "m.xml").exists()
