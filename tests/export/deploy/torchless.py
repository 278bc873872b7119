"""A Python that has numpy, Pillow and ONNX Runtime, and nothing else of this environment."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

PACKAGES = ("numpy", "numpy.libs", "PIL", "pillow.libs", "onnxruntime")

_RUN = """
import runpy, sys
sys.path.append(sys.argv[1])
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def packages(folder: Path) -> Path:
    """Make `folder` a folder of links to those packages alone."""
    numpy = importlib.util.find_spec("numpy")
    assert numpy is not None and numpy.origin is not None
    site = Path(numpy.origin).parents[1]
    folder.mkdir()
    for name in PACKAGES:
        if (site / name).exists():
            (folder / name).symlink_to(site / name)
    return folder


def run(site: Path, script: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a script that can import the standard library and what is in `site`."""
    command = [sys.executable, "-I", "-S", "-c", _RUN, str(site), str(script), *map(str, words)]
    return subprocess.run(command, text=True, capture_output=True, timeout=120, check=False)
