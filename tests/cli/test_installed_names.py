"""The installed package: a user's files of the same names do not shadow it, and the wheel is complete."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from cli_calls import ROOT, environment

SCRIPT = """
import compress
import compress.bench, compress.cli, compress.doctor, compress.export
from compress.export import options
print(compress.export.__file__, options.__file__, compress.cli.app.info.name)
"""


@pytest.fixture
def shadows(tmp_path: Path) -> Path:
    """A folder with a user's files that carry the names of the repository's folders."""
    for name in ("export", "bench", "cli", "doctor"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('{name}.py of the user was imported')\n")
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path


def run(folder: Path, *words: str) -> str:
    """Run a program in a folder and return its output."""
    done = subprocess.run(
        words, cwd=folder, env=environment(), text=True, capture_output=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_script_beside_files_of_these_names_imports_compress(shadows: Path) -> None:
    package, module, name = run(shadows, sys.executable, "script.py").split()
    assert Path(package).parent.name == Path(module).parent.name == "export"
    assert "compress" in Path(package).parts and name == "compress"


@pytest.mark.parametrize("words", [("--help",), ("list", "methods"), ("bench", "--help")])
def test_the_module_runs_beside_files_of_these_names(shadows: Path, words: tuple[str, ...]) -> None:
    assert run(shadows, sys.executable, "-m", "compress", *words)


def test_the_console_script_runs_beside_files_of_these_names(shadows: Path) -> None:
    script = shutil.which("compress", path=sysconfig.get_path("scripts"))
    assert script is not None
    assert "Usage: compress" in run(shadows, script, "--help")


def test_torchrun_runs_the_module_beside_files_of_these_names(shadows: Path) -> None:
    launch = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "1", "-m", "compress")
    assert run(shadows, *launch, "--version").startswith("compress ")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel of a copy of this repository."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignored = shutil.ignore_patterns(
        ".git", "__pycache__", "*.egg-info", "build", ".venv", ".*_cache", "runs"
    )
    shutil.copytree(ROOT, source, symlinks=True, ignore=ignored)
    command = [sys.executable, "-m", "pip", "wheel", str(source), "--no-deps", "--no-build-isolation", "-q"]
    done = subprocess.run([*command, "-w", str(folder)], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_holds_one_package_with_every_file(wheel: Path) -> None:
    assert [path.name for path in wheel.iterdir() if not path.name.endswith(".dist-info")] == ["compress"]
    package = wheel / "compress"
    for name in ("export", "bench", "doctor"):
        assert (package / name).is_dir() and not (package / name).is_symlink()
    expected = {
        path.relative_to(ROOT / "compress")
        for folder in ("", "export", "bench", "doctor")
        for path in (ROOT / "compress" / folder).rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".md")
    }
    missing = [str(path) for path in sorted(expected) if not (package / path).is_file()]
    assert missing == []
    assert (package / "py.typed").is_file()
    assert list((package / "recipes").glob("*.toml"))
    assert list((package / "bench" / "report" / "templates").iterdir())


def installed(wheel: Path) -> dict[str, str]:
    """Return an environment in which the unpacked wheel comes before this repository."""
    return {**os.environ, "PYTHONPATH": str(wheel), "PYTHONSAFEPATH": "1"}


def test_every_room_is_imported_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    code = (
        "import compress, compress.cli, compress.export.commands, compress.bench.commands, compress.doctor\n"
        "from compress import recipes\n"
        "print(compress.__file__, len(recipes.list_recipes()) > 5)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=installed(wheel),
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.stdout.split() == [str(wheel / "compress" / "__init__.py"), "True"], done.stderr


@pytest.mark.slow
def test_types_are_checked_against_the_wheel(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(
        "import compress\nimport compress.export\n"
        "reveal_type(compress.load)\nreveal_type(compress.export.export)\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "user.py",
            "--cache-dir",
            str(tmp_path / "cache"),
            "--ignore-missing-imports",
        ],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(wheel)},
        text=True,
        capture_output=True,
        check=False,
    )
    assert "def (" in done.stdout and "Any" not in done.stdout.splitlines()[0], done.stdout + done.stderr
