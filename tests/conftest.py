"""Settings of every test: one thread a process (the suite runs on all cores), no colour, no network hubs."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

# a shell that starts the suite in the background has it ignore Ctrl-C, and so do the programs it starts
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NO_COLOR", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["COLUMNS"] = "160"

import pytest
import torch

from compress import models

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--zoo",
        action="store_true",
        help="all networks of the zoo, not only the samples",
    )


DEEPER = ("resnet32", "resnet44", "resnet56", "resnet110")
"""The same code as resnet20; in tests of every built-in network only with ``--zoo``."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with `builtin` among its arguments for the built-in networks."""
    if "builtin" in metafunc.fixturenames:
        all_of_them = metafunc.config.getoption("--zoo")
        names = [name for name in models.list_models() if all_of_them or name not in DEEPER]
        metafunc.parametrize("builtin", names)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Makes a file system of so many kilobytes (a tmpfs; only root may mount it), returns its folder."""
    mounted: list[Path] = []

    def make(kilobytes: int) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        options = f"size={kilobytes}k,mode=755"
        try:
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True
            )
        except FileNotFoundError:
            pytest.skip("a small file system cannot be mounted: there is no mount command")
        if done.returncode:
            pytest.skip(f"a small file system cannot be mounted: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)
