"""A format of another package, found through an entry point, and used by the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from plugins import Plugin, make_plugin

from compress.core.errors import CompressError
from compress.export import export, list_formats
from compress.export.formats import FORMATS

SOURCE = '''
"""ONNX files with a header of four bytes."""

from __future__ import annotations

from pathlib import Path

from compress.export.formats import FORMATS, Format
from compress.export.onnx.session import OnnxClassifier
from compress.export.types import BuiltFile


@FORMATS.register("acme")
class AcmeFormat(Format):
    """``--format acme``."""

    name = "acme"
    summary = "ONNX with a header"
    runtime = "ACME"
    suffix = ".acme"
    packages = {"onnxruntime": "onnxruntime"}
    precisions = ("fp32", "int8")
    options = frozenset({"simplify"})

    def build(self, inputs, source, path):
        path.write_bytes(b"ACME" + source.path.read_bytes())
        return BuiltFile(source.inputs, source.outputs, source.precision, tools={"acme": "1.0"})

    def open(self, path, precision):
        plain = Path(path).with_suffix(".onnx")
        plain.write_bytes(path.read_bytes()[4:])
        return OnnxClassifier(plain)
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    return make_plugin(
        tmp_path, "acme_formats", {"acme.py": SOURCE}, {"formats": {"acme": "acme_formats.acme"}}
    )


def test_the_command_line_exports_to_a_format_of_another_package(plugin: Plugin, run: Path) -> None:
    done = plugin.run("export", run, "--format", "acme", "--samples", "16", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["file"], record["format"], record["tools"]) == ("model.fp32.acme", "acme", {"acme": "1.0"})
    assert [(link["name"], link["status"]) for link in record["details"]["chain"]] == [
        ("onnx-fp32", "passed"),
        ("model.fp32.acme", "passed"),
    ]
    assert (run / "export" / "model.fp32.acme").read_bytes().startswith(b"ACME")


def test_its_name_is_in_the_help(plugin: Plugin) -> None:
    done = plugin.run("export", "--help", COLUMNS="200")
    assert "acme, onnx, openvino" in done.stdout, done.stderr


def test_its_row_is_what_the_checks_read(plugin: Plugin, run: Path, tmp_path: Path) -> None:
    with plugin.installed(FORMATS):
        assert "acme" in list_formats()
        with pytest.raises(CompressError, match=r"'acme' does not support --precision fp16") as caught:
            export(run, "acme", "fp16")
        assert "fp32, int8" in caught.value.hint
        with pytest.raises(CompressError, match=r"'acme' does not support --opset"):
            export(run, "acme", opset=18)
    assert "acme" not in list_formats()
    shutil.rmtree(tmp_path / "site")
