"""A method is added by one file: the example of the documentation, and a package outside the tree."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compress.methods import METHODS
from compress.pipeline import TrainResult

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "extending.md"


def example() -> str:
    blocks: list[str] = [
        block
        for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
        if '@METHODS.register("distill")' in block
    ]
    assert len(blocks) == 1
    return blocks[0]


@pytest.fixture
def registered() -> Iterator[None]:
    exec(compile(example(), str(GUIDE), "exec"), {"__name__": "guide"})
    yield
    METHODS._entries.pop("distill")


def test_example_has_fewer_than_sixty_lines() -> None:
    assert example().count("\n") < 60


@pytest.mark.usefixtures("registered")
def test_example_trains_a_network_of_the_planned_size(run: Callable[..., TrainResult]) -> None:
    messages: list[str] = []
    result = run("distill", 3, options={"weight": 0.5}, said=messages)
    assert "distill trains the dense network first" in messages[0]
    assert result.verify["compact_vs_trained"]["passed"]
    assert result.compact.macs == pytest.approx(0.5 * result.dense.macs, rel=0.01)


PLUGIN = """
from compress.methods import METHODS, MethodConfig
from compress.methods.baselines.base import SliceThenTrain


class Outside(MethodConfig):
    note: str = "none"


@METHODS.register("outside")
class OutsideMethod(SliceThenTrain):
    config_type = Outside
"""


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """Environment in which a package with the method ``outside`` is installed."""
    site = tmp_path / "site"
    (site / "outside_package-1.0.dist-info").mkdir(parents=True)
    (site / "outside_method.py").write_text(PLUGIN)
    info = site / "outside_package-1.0.dist-info"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[compress.methods]\noutside = outside_method\n")
    return {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}


def test_method_of_an_installed_package_is_used_by_name(installed: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "compress", "train", "--method", "outside", "--model", "vgg_small"]
    command += ["--data", "digits", "--input-size", "1,8,8", "--target", "macs=0.5", "--epochs", "1"]
    command += ["--set", "note=used", "--device", "cpu", "--out", str(tmp_path / "run"), "--json"]
    done = subprocess.run(command, env=installed, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["method"] == "outside"
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["settings"]["options"]["note"] == "used"
