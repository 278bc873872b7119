from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from compress import artifact
from compress.artifact import RunFolder, compact_info
from compress.core.errors import CompressError, Exit
from compress.core.files import sha256_file
from compress.core.spec import Preprocess
from compress.data import ImageData
from compress.export import evaluate_onnx, export
from compress.export.formats import FORMATS, require_packages
from compress.export.formats.onnx import OnnxFormat
from compress.export.trust import manifest
from compress.graph import trace
from compress.planning import make_plan
from compress.slicing import slice_model
from compress.training.evaluation import evaluate


def test_an_export_writes_only_the_file_and_its_manifest(run: Path) -> None:
    result = export(run, samples=32)
    assert {path.name for path in (run / "export").iterdir()} == {"model.onnx", "manifest.json"}
    assert result.path == run / "export" / "model.onnx"
    assert result.record.sha256 == sha256_file(result.path)
    assert result.record.bytes == result.path.stat().st_size
    assert manifest.verified_record(run / "export", "model.onnx") == result.record


def test_the_manifest_records_inputs_and_origin(run: Path) -> None:
    record = export(run, samples=32).record
    info = compact_info(run)
    assert record.inputs[0].model_dump() == {"name": "input", "dtype": "float32", "shape": ("batch", 1, 8, 8)}
    assert record.outputs[0].shape == ("batch", 10)
    assert (record.classes, record.preprocess) == (info.classes, info.preprocess)
    assert record.lineage.run == "tiny-run"
    assert record.lineage.weights_sha256 == info.weights_sha256
    assert record.lineage.plan_sha256 == sha256_file(run / "compact" / "plan.json")
    assert {"python", "torch", "onnx"} <= record.tools.keys()


def test_the_file_carries_preprocessing_classes_run_and_model(run: Path) -> None:
    path = export(run, samples=32).path
    entries = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    info = compact_info(run)
    assert Preprocess.model_validate_json(entries["compress.preprocess"]) == info.preprocess
    assert tuple(json.loads(entries["compress.classes"])) == info.classes
    assert (entries["compress.run"], entries["compress.model"]) == ("tiny-run", info.model.name)
    assert entries["compress.version"]


def test_a_second_export_replaces_the_first(run: Path) -> None:
    export(run, samples=32)
    result = export(run, samples=32, batch=4)
    actual = manifest.read(run / "export")
    assert [record.batch for record in actual.files] == [4]
    assert manifest.verified_record(run / "export", "model.onnx") == result.record


def test_simplifying_is_reported_in_the_manifest(run: Path) -> None:
    record = export(run, samples=32, simplify=True).record
    assert record.details["simplify"]["reason"]
    assert record.details["simplified"] == record.details["simplify"]["kept"]
    assert record.parity.passed


def test_a_file_that_fails_parity_is_kept_aside_with_a_report(run: Path) -> None:
    with pytest.raises(CompressError) as caught:
        export(run, samples=32, max_relative=1e-12)
    assert caught.value.exit is Exit.PARITY
    folder = run / "export"
    assert {path.name for path in folder.iterdir()} == {"model.onnx.rejected", "model.onnx.rejected.json"}
    report = json.loads((folder / "model.onnx.rejected.json").read_text())
    assert report["passed"] is False
    assert report["max_rel"] > 1e-12


def test_a_failed_export_leaves_the_good_one_before_it(run: Path) -> None:
    before = export(run, samples=32).record
    with pytest.raises(CompressError):
        export(run, samples=32, max_relative=1e-12)
    assert manifest.verified_record(run / "export", "model.onnx") == before


def test_a_successful_export_removes_rejected_files(run: Path) -> None:
    with pytest.raises(CompressError):
        export(run, samples=32, max_relative=1e-12)
    export(run, samples=32)
    assert {path.name for path in (run / "export").iterdir()} == {"model.onnx", "manifest.json"}


def test_an_unknown_format_is_refused_with_the_nearest_and_all(run: Path) -> None:
    with pytest.raises(CompressError) as caught:
        export(run, format="onxx")
    assert caught.value.exit is Exit.USAGE
    assert "Did you mean onnx?" in caught.value.hint
    assert not (run / "export").exists()


def test_a_missing_package_gives_the_command_that_installs_it() -> None:
    with pytest.raises(CompressError, match="no_such_module") as caught:
        require_packages({"no_such_module": "no-such-package"}, "the format 'x'")
    assert caught.value.exit is Exit.MISSING
    assert caught.value.hint == "pip install no-such-package"


def test_onnx_is_a_registered_format() -> None:
    assert FORMATS["onnx"] is OnnxFormat


@pytest.mark.parametrize("batch", [0, -3, "dynamik"])
def test_an_impossible_batch_size_is_refused(run: Path, batch: int | str) -> None:
    with pytest.raises(CompressError, match=str(batch)) as caught:
        export(run, batch=batch)  # type: ignore[arg-type]
    assert caught.value.exit is Exit.USAGE


def test_no_samples_are_refused(run: Path) -> None:
    with pytest.raises(CompressError, match="at least 1 test image, not 0"):
        export(run, samples=0)


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="no-run") as caught:
        export(tmp_path / "no-run")
    assert caught.value.exit is Exit.MISSING


def test_a_run_without_a_compact_model_is_refused_and_unchanged(run: Path) -> None:
    (run / "compact" / "model.json").unlink()
    with pytest.raises(CompressError) as caught:
        export(run)
    assert caught.value.exit is Exit.MISSING
    assert not (run / "export").exists()


def test_a_second_writer_is_refused(run: Path) -> None:
    with RunFolder.open(run, write=True), pytest.raises(CompressError) as caught:
        export(run, samples=32)
    assert caught.value.code == "locked"


def test_a_changed_file_is_no_longer_trusted(run: Path) -> None:
    path = export(run, samples=32).path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert manifest.verified_record(run / "export", "model.onnx") is None


def test_a_manifest_of_another_version_is_refused(run: Path) -> None:
    (run / "export").mkdir()
    (run / "export" / "manifest.json").write_text('{"schema_version": 99, "files": []}')
    with pytest.raises(CompressError, match="99"):
        export(run, samples=32)


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"schema_version": 1, "files": [{}]}')
    with pytest.raises(CompressError, match=r"manifest\.json") as caught:
        manifest.read(tmp_path)
    assert caught.value.exit is Exit.MISSING


def test_a_sliced_network_exports_and_scores_as_it_does_in_torch(run: Path, digits: ImageData) -> None:
    dense = artifact.load(run)
    graph = trace(dense, digits.test_arrays(2)[0])
    plan = make_plan(graph, keep=0.5)
    narrow = slice_model(dense, plan).eval()
    with RunFolder.open(run, write=True) as folder:
        spec = compact_info(folder).model
        artifact.save_compact(folder, narrow, spec, plan, {}, compact=plan.narrow)
    result = export(run, samples=64)
    assert result.record.parity.passed
    assert result.record.lineage.plan_sha256 == sha256_file(run / "compact" / "plan.json")
    in_torch = evaluate(artifact.load(run), digits.test_batches(batch_size=64), "cpu", 10, confusion=True)
    in_onnx = evaluate_onnx(result.path, digits)
    assert (in_onnx.top1, in_onnx.confusion) == (in_torch.top1, in_torch.confusion)
    assert in_onnx.loss == pytest.approx(in_torch.loss, rel=1e-5)
