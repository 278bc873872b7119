from __future__ import annotations

import json
from pathlib import Path

import pytest

from compress.core.files import sha256_file
from compress.export.trust import manifest
from compress.export.trust.device import DeviceRecord, sm, this_device
from compress.export.trust.manifest import CompanionRecord, Manifest


def test_the_manifest_names_the_run_record_the_file_was_made_from(exported: Path) -> None:
    record = manifest.read(exported).files[0]
    assert record.lineage.run_sha256 == sha256_file(exported.parent / "run.json")


def test_the_manifest_names_the_device(exported: Path) -> None:
    assert manifest.read(exported).files[0].device == this_device()


def test_the_contract_is_whole_in_the_file(exported: Path) -> None:
    preprocess = json.loads((exported / "manifest.json").read_text())["files"][0]["preprocess"]
    assert preprocess == {
        "input_size": [1, 8, 8],
        "mean": preprocess["mean"],
        "std": preprocess["std"],
        "resize": None,
        "interpolation": "bilinear",
        "resampling": "float32",
        "crop": "center",
        "layout": "NCHW",
        "color": "L",
        "dtype": "float32",
        "value_range": [0, 1],
    }


def test_a_file_whose_companion_changed_is_not_trusted(exported: Path) -> None:
    (exported / "weights.bin").write_bytes(b"123")
    companion = manifest.companion_record(exported / "weights.bin")
    record = manifest.read(exported).files[0].model_copy(update={"companions": (companion,)})
    manifest.write(exported, Manifest(files=(record,)))
    assert manifest.verified_record(exported, "model.onnx") == record
    (exported / "weights.bin").write_bytes(b"124")
    assert manifest.verified_record(exported, "model.onnx") is None


def test_extras_stay_when_another_file_is_exported(exported: Path) -> None:
    (exported / "note.txt").write_text("hello")
    listed = manifest.read(exported).with_extra(manifest.companion_record(exported / "note.txt"))
    manifest.write(exported, listed.with_file(listed.files[0]))
    assert [extra.file for extra in manifest.read(exported).extras] == ["note.txt"]


def test_writing_a_manifest_removes_the_signature_of_the_one_before(exported: Path) -> None:
    (exported / manifest.SIGNATURE).write_bytes(b"0" * 64)
    manifest.write(exported, manifest.read(exported))
    assert not (exported / manifest.SIGNATURE).exists()


@pytest.mark.parametrize("name", ["../run.json", "/etc/hostname", "", ".", ".."])
def test_a_name_that_leaves_the_folder_is_a_fault(exported: Path, name: str) -> None:
    record = CompanionRecord(file=name, sha256="0" * 64, bytes=1)
    assert manifest.describe_mismatch(exported, record) == "its name is not a plain file name"


def test_a_manifest_from_before_devices_and_companions_is_read(exported: Path) -> None:
    path = exported / "manifest.json"
    content = json.loads(path.read_text())
    for key in ("device", "companions"):
        del content["files"][0][key]
    del content["extras"], content["files"][0]["lineage"]["run_sha256"]
    path.write_text(json.dumps(content))
    assert manifest.verified_record(exported, "model.onnx") is not None


def test_a_device_without_a_gpu_has_no_gpu_fields() -> None:
    here = this_device()
    if here.gpu is None:
        assert here == DeviceRecord(
            driver=here.driver, cuda=here.cuda, tensorrt=here.tensorrt, tensorrt_rtx=here.tensorrt_rtx
        )
    else:
        assert sm(here.compute_capability) is not None


@pytest.mark.parametrize(("said", "number"), [("8.6", 86), ("12.0", 120), (None, None), ("new", None)])
def test_compute_capabilities_are_read(said: str | None, number: int | None) -> None:
    assert sm(said) == number
