"""Every example runs, in small."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from compress.methods import METHODS

EXAMPLES = Path(__file__).parents[2] / "examples"
TESTED = {
    "benchmark_two_runs.py",
    "custom_method.py",
    "inspect_and_slice.py",
    "own_network.py",
    "quickstart.ipynb",
    "train_and_export.py",
}


def load_example(name: str) -> ModuleType:
    """Import an example from its file."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def restored_methods() -> Iterator[None]:
    """Remove the methods that are registered inside."""
    METHODS.discover()
    before = dict(METHODS._entries)
    try:
        yield
    finally:
        METHODS._entries.clear()
        METHODS._entries.update(before)


def test_every_example_has_a_test_and_is_on_the_page() -> None:
    files = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    page = (EXAMPLES.parent / "docs" / "examples.md").read_text(encoding="utf-8")
    assert files == TESTED
    assert set(re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)) == files


def test_slicing_example_is_exact() -> None:
    assert load_example("inspect_and_slice").main(["--macs", "0.4"]) < 1e-5


def test_own_network_example_learns(tmp_path: Path) -> None:
    words = ["--epochs", "2", "--images", "256", "--out", str(tmp_path / "run")]
    result = load_example("own_network").main(words)
    assert result.top1 > 0.3
    assert result.compact.macs < 0.51 * result.dense.macs


@pytest.mark.slow
def test_custom_method_example_trains_both_methods(tmp_path: Path) -> None:
    with restored_methods():
        accuracies = load_example("custom_method").main(["--epochs", "2", "--out", str(tmp_path)])
    assert set(accuracies) == {"mixup", "l1"}
    assert min(accuracies.values()) > 0.3


@pytest.mark.slow
def test_export_example_evaluates_its_file(tmp_path: Path) -> None:
    accuracy = load_example("train_and_export").main(["--epochs", "4", "--out", str(tmp_path / "run")])
    assert accuracy > 0.5
    assert (tmp_path / "run" / "export" / "model.onnx").is_file()


@pytest.mark.slow
def test_benchmark_example_has_a_verdict_for_each_run(tmp_path: Path) -> None:
    words = ["--epochs", "1", "--budget", "2", "--sessions", "2", "--out", str(tmp_path)]
    verdicts = load_example("benchmark_two_runs").main(words)
    assert set(verdicts) == {"dcff", "scratch"}
    assert set(verdicts.values()) <= {"FASTER", "SLOWER", "SAME", "UNCLEAR"}


@pytest.mark.slow
def test_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    last = "".join(output.get("text", "") for output in notebook.cells[-1].outputs)
    assert re.search(r"\d\.\d\dx \(.*\), (FASTER|SLOWER|SAME|UNCLEAR)", last)
