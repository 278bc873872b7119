"""TensorRT-RTX's own parser and builder, which run without a GPU; the code is the same for TensorRT."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from compress import models
from compress.core.errors import CompressError, Exit
from compress.export import export
from compress.export.formats.tensorrt_build import build_engine, supported_targets
from compress.export.onnx.exporter import to_onnx
from compress.export.options import BatchRange, Options, Precision
from compress.export.trust import manifest

rtx = pytest.importorskip("tensorrt_rtx")

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="an engine can be run here")


@NO_GPU
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_an_engine_that_was_not_run_is_not_called_passed(residual_run: Path, precision: Precision) -> None:
    result = export(residual_run, "trt-rtx", samples=16, calib_images=16, precision=precision)
    assert result.path.name == f"model.{precision}.rtx.engine"
    link = result.record.details["chain"][-1]
    assert (link["name"], link["status"]) == (result.path.name, "not run")
    assert "no device" in link["reason"]
    assert result.record.details["parity_of"] == f"onnx-{precision}"
    assert manifest.verified_record(residual_run / "export", result.path.name) == result.record


def test_the_manifest_records_how_an_engine_was_built(residual_run: Path) -> None:
    record = export(
        residual_run, "trt-rtx", batch=BatchRange(1, 4, 16), samples=8, target_sm=(86, 89), workspace_mb=512
    ).record
    build = record.details["build"]
    assert build["profile"] == {"min": 1, "opt": 4, "max": 16}
    assert (build["target_sm"], build["workspace_mb"]) == ([86, 89], 512)
    assert (build["runtime"], build["runtime_version"]) == ("tensorrt_rtx", rtx.__version__)
    assert "STRONGLY_TYPED" in build["flags"]
    assert record.batch == "dynamic"
    assert record.tools["tensorrt_rtx"] == rtx.__version__


def test_one_call_builds_for_two_gpus_and_the_engine_holds_no_less(residual_onnx: Path) -> None:
    sizes = {
        sms: build_engine(rtx, residual_onnx, Options(target_sm=sms), "RTX").data.nbytes
        for sms in ((86,), (86, 89))
    }
    assert sizes[(86, 89)] >= sizes[(86,)] > 0  # larger only where the two take other kernels


@pytest.mark.parametrize("batch", ["dynamic", 4, BatchRange(2, 2, 8)])
def test_every_kind_of_batch_builds(residual_run: Path, batch: Any) -> None:
    assert export(residual_run, "trt-rtx", batch=batch, samples=8).path.stat().st_size > 0


def test_an_operator_the_parser_has_not_is_named_with_its_own_words(determinant: Path) -> None:
    with pytest.raises(CompressError, match=r"'the_determinant' \(Det\).*UNSUPPORTED_NODE") as caught:
        build_engine(rtx, determinant, Options(), "TensorRT-RTX")
    assert (caught.value.code, caught.value.exit) == ("unsupported", Exit.BUILD)
    assert caught.value.details["errors"][0]["operator"] == "Det"


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no network")
    with pytest.raises(CompressError, match="cannot parse the file") as caught:
        build_engine(rtx, tmp_path / "m.onnx", Options(), "TensorRT-RTX")
    assert caught.value.exit is Exit.BUILD


def test_an_unknown_target_is_refused_with_those_it_knows(residual_run: Path) -> None:
    with pytest.raises(CompressError, match="SM 90") as caught:
        export(residual_run, "trt-rtx", samples=8, target_sm=(86, 90))
    assert caught.value.code == "target-sm"
    assert all(str(sm) in caught.value.hint for sm in supported_targets(rtx))
    assert list((residual_run / "export").iterdir()) == []


def test_a_workspace_too_small_is_named_with_the_builders_words(tmp_path: Path) -> None:
    to_onnx(models.build("vgg_small", 10, (3, 32, 32)), torch.zeros(1, 3, 32, 32), tmp_path / "m.onnx")
    with pytest.raises(CompressError, match=r"workspace of 1 MiB.*workspace limit") as caught:
        build_engine(rtx, tmp_path / "m.onnx", Options(workspace_mb=1), "TensorRT-RTX")
    assert (caught.value.code, caught.value.exit) == ("workspace", Exit.BUILD)
    assert "--workspace 4" in caught.value.hint


@pytest.mark.parametrize(
    ("format", "options", "flag"),
    [
        ("trt-rtx", {"timing_cache": "cache.bin"}, "--timing-cache"),
        ("trt-rtx", {"hardware_compat": True}, "--hardware-compat"),
        ("trt-rtx", {"version_compat": True}, "--version-compat"),
        ("openvino", {"target_sm": (86,)}, "--target-sm"),
        ("onnx", {"workspace_mb": 64}, "--workspace"),
        ("onnx", {"batch": BatchRange(1, 2, 4)}, "--batch 1:2:4"),
    ],
)
def test_a_flag_that_the_format_does_not_support_is_refused(
    residual_run: Path, format: str, options: dict[str, Any], flag: str
) -> None:
    with pytest.raises(CompressError) as caught:
        export(residual_run, format, **options)
    assert flag in caught.value.message
    assert caught.value.exit is Exit.USAGE
    assert caught.value.hint
    assert not (residual_run / "export").exists()


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed here")
def test_a_missing_tensorrt_gives_the_command_that_installs_it(residual_run: Path) -> None:
    with pytest.raises(CompressError, match="tensorrt") as caught:
        export(residual_run, "trt")
    assert (caught.value.exit, caught.value.hint) == (Exit.MISSING, "pip install tensorrt")
