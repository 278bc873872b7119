from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from compress.core.errors import CompressError, Exit
from compress.core.files import sha256_file
from compress.export.trust import manifest
from compress.export.trust.manifest import Manifest
from compress.export.trust.verify import Finding, verify_folder


def faults(folder: Path) -> dict[str, Finding]:
    return {finding.file: finding for finding in verify_folder(folder).faults}


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the record of the export as an editor would."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    change(content["files"][0])
    path.write_text(json.dumps(content))


def test_an_untouched_export_passes(exported: Path) -> None:
    result = verify_folder(exported)
    assert result.passed
    assert {finding.check for finding in result.findings} == {"signature", "manifest", "content", "metadata"}


def test_a_run_folder_stands_for_its_export_folder(exported: Path) -> None:
    assert verify_folder(exported.parent).folder == str(exported)


def test_a_changed_byte_is_detected(exported: Path) -> None:
    path = exported / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "sha256" in faults(exported)["model.onnx"].said


def test_a_changed_size_is_detected(exported: Path) -> None:
    path = exported / "model.onnx"
    path.write_bytes(path.read_bytes() + b"x")
    assert f"{path.stat().st_size:,} bytes" in faults(exported)["model.onnx"].said


def test_a_missing_file_is_detected(exported: Path) -> None:
    (exported / "model.onnx").unlink()
    assert faults(exported)["model.onnx"].said == "is missing"


def test_a_file_missing_from_the_manifest_is_detected(exported: Path) -> None:
    (exported / "model.int8.engine").write_bytes(b"code")
    (exported / "more").mkdir()
    assert {finding.check for finding in faults(exported).values()} == {"listing"}
    assert faults(exported).keys() == {"model.int8.engine", "more"}


def test_a_changed_companion_is_detected(exported: Path) -> None:
    (exported / "model.bin").write_bytes(b"123")
    companion = manifest.companion_record(exported / "model.bin")
    record = manifest.read(exported).files[0].model_copy(update={"companions": (companion,)})
    manifest.write(exported, Manifest(files=(record,)))
    assert verify_folder(exported).passed
    (exported / "model.bin").write_bytes(b"321")
    assert faults(exported).keys() == {"model.bin"}


def test_swapped_classes_in_the_manifest_are_detected(exported: Path) -> None:
    edit(exported, lambda record: record["classes"].reverse())
    assert faults(exported)["model.onnx"].said.startswith("classes: number 0 is '0' in the file, '9' in the")


def test_changed_preprocessing_in_the_manifest_is_detected(exported: Path) -> None:
    edit(exported, lambda record: record["preprocess"].update(mean=[0.9]))
    assert "preprocessing: mean is" in faults(exported)["model.onnx"].said


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("inputs", [{"name": "x", "dtype": "float32", "shape": ["batch", 1, 8, 8]}], "inputs: the file has"),
        ("outputs", [{"name": "logits", "dtype": "float32", "shape": [4, 10]}], "outputs: the file has"),
        ("opset", 9, "opset: the file has"),
    ],
)
def test_an_interface_that_differs_from_the_file_is_detected(
    exported: Path, key: str, value: Any, said: str
) -> None:
    edit(exported, lambda record: record.update({key: value}))
    assert said in faults(exported)["model.onnx"].said


def test_a_file_without_entries_of_its_own_contradicts_nothing(exported: Path) -> None:
    path = exported / "model.onnx"
    proto = onnx.load(str(path))
    del proto.metadata_props[:]
    onnx.save(proto, str(path))
    edit(exported, lambda r: r.update(sha256=sha256_file(path), bytes=path.stat().st_size))
    assert verify_folder(exported).passed


def test_a_record_of_failed_parity_is_a_fault(exported: Path) -> None:
    edit(exported, lambda record: record["parity"].update(passed=False))
    assert faults(exported)["model.onnx"].check == "parity"


def test_a_file_that_was_never_run_is_noted(exported: Path) -> None:
    link = {"name": "model.onnx", "status": "not run", "reason": "no device"}
    edit(exported, lambda record: record["details"].update(chain=[{**link, "name": "before"}, link]))
    notes = [
        (finding.status, finding.said)
        for finding in verify_folder(exported).findings
        if finding.check == "parity"
    ]
    assert notes == [("note", "was never run: no device")]


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "is damaged"), ('{"schema_version": 99}', "schema version 99"), ("[]", "no JSON object")],
)
def test_a_damaged_manifest_is_a_fault(exported: Path, content: str, said: str) -> None:
    (exported / "manifest.json").write_text(content)
    assert said in faults(exported)["manifest.json"].said


def test_a_field_that_is_not_in_the_schema_is_a_fault(exported: Path) -> None:
    edit(exported, lambda record: record.update(extra=1))
    assert "files.0.extra" in faults(exported)["manifest.json"].said


def test_a_file_listed_twice_is_a_fault(exported: Path) -> None:
    record = manifest.read(exported).files[0]
    manifest.write(exported, Manifest(files=(record, record)))
    assert "more than once" in faults(exported)["manifest.json"].said


def test_a_rejected_file_and_a_cut_off_export_are_only_noted(exported: Path) -> None:
    for name in ("model.fp16.onnx.rejected", "model.fp16.onnx.rejected.json"):
        (exported / name).write_text("{}")
    (exported / ".staging-x").mkdir()
    result = verify_folder(exported)
    assert result.passed
    assert len([finding for finding in result.findings if finding.check == "listing"]) == 3


def test_a_run_that_changed_since_is_noted(exported: Path) -> None:
    (exported.parent / "compact" / "weights.safetensors").write_bytes(b"others")
    notes = [finding for finding in verify_folder(exported).findings if finding.check == "lineage"]
    assert [(note.status, "export again" in note.said) for note in notes] == [("note", True)]
    assert verify_folder(exported).passed


def test_a_folder_without_a_manifest_is_an_error(exported: Path) -> None:
    (exported / "manifest.json").unlink()
    with pytest.raises(CompressError) as caught:
        verify_folder(exported)
    assert (caught.value.code, caught.value.exit) == ("no-manifest", Exit.MISSING)


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="no folder"):
        verify_folder(tmp_path / "none")
