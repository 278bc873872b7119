"""The options of `compress export`, as they come from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_calls import Here


def test_an_int8_export_for_openvino_says_each_link_on_stderr(call: Here, run: Path) -> None:
    pytest.importorskip("openvino")
    words = ("--format", "openvino", "--precision", "int8", "--batch", "1:4:8", "--calib-images", 16)
    found = call("export", run, *words, "--samples", 32)
    assert (found.code, found.out) == (0, f"{run / 'export' / 'model.int8.xml'}\n"), found.err
    assert "onnx-fp32 = onnx-int8: passed" in found.err
    assert "onnx-int8 = model.int8.xml: passed" in found.err


def test_an_rtx_export_records_its_targets_and_profile(call: Here, run: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    words = ("--format", "trt-rtx", "--target-sm", "86,89", "--batch", "1:4:8", "--workspace", 256)
    found = call("export", run, *words, "--samples", 16, "--json")
    assert found.code == 0, found.out
    build = found.json["details"]["build"]
    assert (build["target_sm"], build["workspace_mb"]) == ([86, 89], 256)
    assert build["profile"] == {"min": 1, "opt": 4, "max": 8}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--batch", "8:4:2"), "bad-batch"),
        (("--precision", "int4"), "unknown-precision"),
        (("--precision", "int8", "--calib-images", "0"), "no-calibration"),
        (("--target-sm", "ada"), "target-sm"),
        (("--timing-cache", "x"), "option"),
    ],
    ids=["batch", "precision", "calibration", "target", "flag"],
)
def test_an_option_that_cannot_be_honoured_exits_2_with_its_code(
    call: Here, run: Path, words: tuple[str, ...], code: str
) -> None:
    found = call("export", run, *words, "--json")
    assert (found.code, found.json["error"]["code"]) == (2, code)
    assert found.json["error"]["hint"]
    assert not (run / "export").exists()
