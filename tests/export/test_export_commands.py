"""`compress export` with lists of formats and precisions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from compress.core.errors import CompressError
from compress.export.commands import app

FEW = ("--samples", "16", "--calib-images", "16")


def _run(*words: object) -> str:
    result = CliRunner().invoke(app, ["export", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_lists_print_a_path_for_each_file(residual_run: Path) -> None:
    out = _run(residual_run, "--precision", "fp32,int8", *FEW)
    folder = residual_run / "export"
    assert out.split() == [str(folder / "model.onnx"), str(folder / "model.int8.onnx")]


def test_lists_give_json_with_a_record_for_each_file(residual_run: Path) -> None:
    content = json.loads(_run(residual_run, "--precision", "fp32, int8", "--json", *FEW))
    assert [(file["format"], file["precision"]) for file in content["exports"]] == [
        ("onnx", "fp32"),
        ("onnx", "int8"),
    ]
    assert "path" not in content


def test_a_single_pair_keeps_the_flat_json(run: Path) -> None:
    content = json.loads(_run(run, "--format", "onnx", "--json", *FEW))
    assert content["path"] == str(run / "export" / "model.onnx")
    assert (content["format"], content["precision"]) == ("onnx", "fp32")
    assert "exports" not in content


@pytest.mark.parametrize("flag", ["--script", "--triton"])
def test_a_script_and_a_repository_are_for_one_file(run: Path, tmp_path: Path, flag: str) -> None:
    with pytest.raises(CompressError, match=rf"{flag} is for one file, and 2 are exported") as caught:
        _run(run, "--precision", "fp32,int8", flag, tmp_path / "x")
    assert caught.value.hint
    assert not (run / "export").exists()
