"""Several formats and precisions in one call, results as objects, and the results in print."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from torch import nn

from compress import artifact
from compress.artifact import RunFolder
from compress.core.errors import CompressError, Exit
from compress.core.spec import ModelSpec
from compress.data import ImageData
from compress.export import ExportResult, ExportResults, export, list_formats, source
from compress.export.options import Options
from compress.export.pipeline import plan_exports
from compress.export.trust import manifest
from compress.export.trust.verify import verify_folder

PAIRS = [("onnx", "fp32"), ("onnx", "int8"), ("openvino", "fp32"), ("openvino", "int8")]


@pytest.fixture(scope="module")
def calls() -> list[str]:
    """Names of the steps that were taken, in order."""
    return []


@pytest.fixture(scope="module")
def several(
    residual_trained: Path, tmp_path_factory: pytest.TempPathFactory, calls: list[str]
) -> Iterator[ExportResults]:
    """The residual network exported to two formats in two precisions. Not to be changed."""
    pytest.importorskip("openvino")
    patch = pytest.MonkeyPatch()
    for name in ("to_onnx", "reduce_precision"):
        patch.setattr(source, name, _counted(getattr(source, name), name, calls))
    run = Path(shutil.copytree(residual_trained, tmp_path_factory.mktemp("several") / "run"))
    yield export(
        run,
        ["onnx", "openvino"],
        ["fp32", "int8"],
        samples=32,
        calib_images=16,
        on_result=lambda result: calls.append(result.path.name),
    )
    patch.undo()


def _counted(function: Any, name: str, calls: list[str]) -> Any:
    def counting(*args: Any, **more: Any) -> Any:
        calls.append(name)
        return function(*args, **more)

    return counting


def test_every_combination_is_released_in_the_order_of_the_request(several: ExportResults) -> None:
    assert [(result.format, result.precision) for result in several] == PAIRS
    folder = several[0].path.parent
    listed = manifest.read(folder)
    assert {record.file for record in listed.files} == {result.path.name for result in several}
    assert verify_folder(folder).passed


def test_the_onnx_export_and_the_quantization_are_done_once(several: ExportResults, calls: list[str]) -> None:
    assert [call for call in calls if call.startswith(("to_", "reduce"))] == ["to_onnx", "reduce_precision"]


def test_each_file_is_reported_as_soon_as_it_is_released(several: ExportResults, calls: list[str]) -> None:
    released = [call for call in calls if call.startswith("model.")]
    assert released == [result.path.name for result in several]
    assert calls.index("model.onnx") < calls.index("reduce_precision")


def test_each_file_has_the_parity_chain_of_a_single_export(several: ExportResults) -> None:
    names = [[link["name"] for link in result.record.details["chain"]] for result in several]
    assert names == [
        ["onnx-fp32"],
        ["onnx-fp32", "onnx-int8"],
        ["onnx-fp32", "model.fp32.xml"],
        ["onnx-fp32", "onnx-int8", "model.int8.xml"],
    ]


def test_a_single_pair_in_lists_has_one_result(run: Path) -> None:
    results = export(run, ["onnx"], ["fp32"], samples=8)
    assert isinstance(results, ExportResults)
    assert len(results) == 1
    assert isinstance(export(run, samples=8), ExportResult)


def test_the_result_prints_in_one_line_per_file(several: ExportResults) -> None:
    lines = str(several).splitlines()
    assert len(lines) == 4
    assert lines[1].startswith(f"{several[1].path}: onnx int8, ")
    assert "top-1" in lines[1]
    assert all(len(repr(result)) < 300 for result in several)
    assert repr(several) == "<ExportResults: onnx fp32, onnx int8, openvino fp32, openvino int8>"


def test_the_result_is_a_table_in_a_notebook(several: ExportResults) -> None:
    html = several._repr_html_()
    assert html.count("<tr>") == 5
    assert "model.int8.xml" in html
    assert several[0]._repr_html_().count("<tr>") == 2


def test_the_size_of_a_result_includes_its_companions(several: ExportResults) -> None:
    files = [several[2].path, several[2].path.with_suffix(".bin")]
    assert several[2].bytes == sum(path.stat().st_size for path in files)


@pytest.mark.parametrize(
    ("formats", "precisions", "options", "message"),
    [
        (["onnx", "openvino"], ["fp32"], Options(target_sm=(86,)), r"'onnx' does not support --target-sm"),
        (["openvino", "onnx"], ["fp32"], Options(workspace_mb=8), r"'openvino' does not support --workspace"),
        (["onnx"], ["fp32", "int4"], Options(), "'int4'"),
        (["onnx", "onxn"], ["fp32"], Options(), "'onxn'"),
        (["onnx"], ["fp32", "bf16"], Options(opset=20), "opset 20 has no bfloat16"),
        (["onnx"], ["fp32", "fp16"], Options(quantize_ends=True), "--quantize-ends"),
    ],
)
def test_a_combination_that_cannot_be_done_is_refused_before_the_work(
    formats: list[str], precisions: list[str], options: Options, message: str
) -> None:
    with pytest.raises(CompressError, match=message) as caught:
        plan_exports(formats, precisions, options)
    assert caught.value.exit is Exit.USAGE
    assert caught.value.hint


def test_quantize_ends_applies_to_int8_only() -> None:
    tasks = plan_exports(["onnx"], ["fp32", "int8"], Options(quantize_ends=True))
    assert [task.options.quantize_ends for task in tasks] == [False, True]


def test_no_format_is_refused(run: Path) -> None:
    with pytest.raises(CompressError, match="no format"):
        export(run, [], samples=8)


def test_a_file_that_fails_does_not_stop_the_others(
    residual_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reduce_precision = source.reduce_precision

    def damaged(full: Path, path: Path, precision: Any, *rest: Any, **more: Any) -> dict[str, Any]:
        report = reduce_precision(full, path, precision, *rest, **more)
        model = onnx.load(str(path))
        weight = max(model.graph.initializer, key=lambda w: len(w.raw_data))
        values = onnx.numpy_helper.to_array(weight)
        weight.CopyFrom(onnx.numpy_helper.from_array(np.zeros_like(values), weight.name))
        onnx.save(model, str(path))
        return report

    monkeypatch.setattr(source, "reduce_precision", damaged)
    pytest.importorskip("openvino")
    with pytest.raises(CompressError, match=r"2 of 3 files could not be exported: onnx int8") as caught:
        export(residual_run, ["onnx"], ["int8", "fp32", "fp16"], samples=16, calib_images=16)
    error = caught.value
    assert (error.code, error.exit) == ("parity", Exit.PARITY)
    assert [failure["precision"] for failure in error.details["failures"]] == ["int8", "fp16"]
    assert error.details["released"] == [str(residual_run / "export" / "model.onnx")]
    names = {path.name for path in (residual_run / "export").iterdir()}
    assert {"model.onnx", "model.int8.onnx.rejected", "model.fp16.onnx.rejected"} <= names


def test_a_run_folder_and_a_result_are_exported_as_a_path_is(run: Path) -> None:
    with RunFolder.open(run) as folder:
        record = export(folder, samples=8).record
    again = export(SimpleNamespace(run=run), samples=8).record
    assert record.sha256 == again.sha256 == export(str(run), samples=8).record.sha256
    with RunFolder.open(run, write=True) as folder:
        assert export(folder, samples=8).record.sha256 == record.sha256


def test_a_data_set_object_is_compared_on(run: Path, digits: ImageData) -> None:
    assert export(run, data=digits, samples=8).record.parity.images == 8


def test_a_result_without_a_run_folder_is_refused_with_the_remedy() -> None:
    with pytest.raises(CompressError, match="no run folder") as caught:
        export(SimpleNamespace(run=None))
    assert "out=" in caught.value.hint


def test_a_run_trained_from_a_module_is_exported_with_the_module_of_its_result(
    run: Path, model: nn.Module
) -> None:
    path = run / "compact" / "model.json"
    content = json.loads(path.read_text())
    spec = ModelSpec.model_validate(content["model"]).model_copy(
        update={"name": "module:my.Net", "source_sha256": None}
    )
    path.write_text(json.dumps({**content, "model": spec.model_dump(mode="json")}))
    with pytest.raises(CompressError) as caught:
        export(run, samples=8)
    assert caught.value.code == "module-needed"
    by_result = export(SimpleNamespace(run=run, model=model), samples=8)
    by_argument = export(run, model=model, samples=8)
    assert by_result.record.parity.passed
    assert by_result.record.sha256 == by_argument.record.sha256


def test_list_formats_names_every_format() -> None:
    assert list_formats() == ["onnx", "openvino", "trt", "trt-rtx"]


def test_the_saved_network_is_exported_and_not_a_changed_one(run: Path) -> None:
    changed = artifact.load(run)
    nn.init.zeros_(next(changed.parameters()))
    record = export(SimpleNamespace(run=run, model=changed), samples=8).record
    assert record.parity.passed
    assert record.sha256 == export(run, samples=8).record.sha256
