"""Options of `compress export`."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_calls import Here


def test_an_int8_export_for_openvino_prints_each_parity_step_on_stderr(call: Here, run: Path) -> None:
    pytest.importorskip("openvino")
    words = ("--format", "openvino", "--precision", "int8", "--batch", "1:4:8", "--calib-images", 16)
    outcome = call("export", run, *words, "--samples", 32)
    assert (outcome.code, outcome.out) == (0, f"{run / 'export' / 'model.int8.xml'}\n"), outcome.err
    assert "onnx-fp32 = onnx-int8: passed" in outcome.err
    assert "onnx-int8 = model.int8.xml: passed" in outcome.err


def test_an_rtx_export_records_its_targets_and_profile(call: Here, run: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    words = ("--format", "trt-rtx", "--target-sm", "86,89", "--batch", "1:4:8", "--workspace", 256)
    outcome = call("export", run, *words, "--samples", 16, "--json")
    assert outcome.code == 0, outcome.out
    build = outcome.json["details"]["build"]
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
def test_an_invalid_option_exits_2_with_its_code(
    call: Here, run: Path, words: tuple[str, ...], code: str
) -> None:
    outcome = call("export", run, *words, "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, code)
    assert outcome.json["error"]["hint"]
    assert not (run / "export").exists()
