"""Help, completion and listing start without the heavy packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cli_calls import environment

HEAVY = ("torch", "onnx", "onnxruntime", "matplotlib", "scipy", "numpy")


def imported_by(cwd: Path, *words: str, **more: str) -> list[str]:
    """Return the heavy packages that a command line imports."""
    code = (
        f"import sys; sys.argv = ['compress', *{words!r}]\nfrom compress import cli\n"
        "try:\n    cli.main()\nexcept SystemExit: pass\n"
        f"print(*sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=environment(**more),
        text=True,
        capture_output=True,
        check=True,
    )
    return done.stderr.splitlines()[-1].split()


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "--version",
        "train --help",
        "bench --help",
        "bench run --help",
        "export --help",
        "nope",
    ],
)
def test_help_imports_no_heavy_package(tmp_path: Path, words: str) -> None:
    assert imported_by(tmp_path, *words.split()) == []


def test_listing_names_does_not_import_torch(tmp_path: Path) -> None:
    assert "torch" not in imported_by(tmp_path, "list", "methods")


def test_help_as_json_does_not_import_torch(tmp_path: Path) -> None:
    assert not {"torch", "onnx", "scipy"} & set(imported_by(tmp_path, "--help", "--json"))


def test_completion_imports_no_heavy_package(tmp_path: Path) -> None:
    line = {"COMP_WORDS": "compress train --method ", "COMP_CWORD": "3"}
    assert imported_by(tmp_path, _COMPRESS_COMPLETE="complete_bash", **line) == []
