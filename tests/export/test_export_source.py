"""An export reuses the ONNX file of an earlier export if nothing has changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from compress import artifact
from compress.artifact import RunFolder
from compress.core.spec import Costs
from compress.export import export, source
from compress.export.options import Options
from compress.export.trust import manifest
from compress.export.trust.verify import verify_folder


@pytest.fixture
def new_exports(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """Operator sets of the ONNX exports that are made, in order."""
    opsets: list[int | None] = []
    to_onnx = source.to_onnx

    def counting(*args: Any, opset: int | None, **more: Any) -> int:
        opsets.append(opset)
        return to_onnx(*args, opset=opset, **more)

    monkeypatch.setattr(source, "to_onnx", counting)
    return opsets


def test_the_next_format_starts_from_the_released_onnx_file(run: Path, new_exports: list[int | None]) -> None:
    first = export(run, samples=16).record
    again = export(run, samples=16).record
    int8 = export(run, precision="int8", samples=16, calib_images=16).record
    assert new_exports == [None]
    assert again.sha256 == first.sha256
    assert [link["name"] for link in again.details["chain"]] == ["onnx-fp32"]
    assert [link["name"] for link in int8.details["chain"]] == ["onnx-fp32", "onnx-int8"]
    assert verify_folder(run).passed


def _damage(run: Path) -> None:
    path = run / "export" / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def _new_weights(run: Path) -> None:
    network = artifact.load(run)
    with torch.no_grad():
        next(network.parameters()).mul_(1.5)
    with RunFolder.open(run, write=True) as folder:
        spec = artifact.compact_info(folder).model
        artifact.save_compact(
            folder, network, spec, None, {"max_rel": 0.0}, compact=Costs(macs=5888, params=1378)
        )


def _other_versions(run: Path) -> None:
    record = manifest.read(run / "export").files[0]
    changed = record.model_copy(update={"tools": {**record.tools, "torch": "1.0"}})
    manifest.write(run / "export", manifest.read(run / "export").with_file(changed))


@pytest.mark.parametrize("change", [_damage, _new_weights, _other_versions])
def test_a_file_that_no_longer_fits_is_not_reused(
    run: Path, new_exports: list[int | None], change: Callable[[Path], None]
) -> None:
    export(run, samples=16)
    change(run)
    assert export(run, samples=16).record.parity.passed
    assert new_exports == [None, None]


@pytest.mark.parametrize("options", [{"opset": 18}, {"batch": 4}])
def test_other_options_make_a_new_file(
    run: Path, new_exports: list[int | None], options: dict[str, Any]
) -> None:
    export(run, samples=16)
    record = export(run, samples=16, **options).record
    assert len(new_exports) == 2
    assert record.parity.passed


def test_a_file_that_was_not_simplified_does_not_stand_for_one_that_is(exported: Path) -> None:
    record = manifest.read(exported).files[0]
    reusable = source.ReusableOnnx(exported / record.file, record)
    assert reusable.fits(Options(), None)
    assert not reusable.fits(Options(simplify=True), None)
    old = record.model_copy(update={"details": {"simplified": False}})  # before the opset was recorded
    assert not source.ReusableOnnx(exported / record.file, old).fits(Options(), None)
