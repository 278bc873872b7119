"""Settings of all tests: one thread per process (the suite runs on all cores), no color, no downloads."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

# in the background of a shell, Ctrl-C is ignored by this process and by the programs that it starts
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NO_COLOR", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["COLUMNS"] = "160"

import pytest
import torch
from hypothesis import HealthCheck, settings

from compress import models

torch.set_num_threads(1)

# no test fails for want of time: a loaded machine is no fault of the code
settings.register_profile("loaded-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("loaded-machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--zoo",
        action="store_true",
        help="run the tests of networks for all networks, not for a sample",
    )


DEEPER = ("resnet32", "resnet44", "resnet56", "resnet110")
"""Same code as resnet20; included in the tests of every built-in network with ``--zoo`` only."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize the argument `builtin` of a test with the built-in networks."""
    if "builtin" in metafunc.fixturenames:
        with_zoo = metafunc.config.getoption("--zoo")
        names = [name for name in models.list_models() if with_zoo or name not in DEEPER]
        metafunc.parametrize("builtin", names)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Return a function that mounts a tmpfs of a size in kilobytes (as root) and returns its folder."""
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


@pytest.fixture(autouse=True)
def default_logging() -> None:
    """Undo what the command line, run in this process by a test before, has set on the package's logger."""
    logger = logging.getLogger("compress")
    logger.setLevel(logging.NOTSET)
    logger.propagate, logger.handlers = True, []
    logging.disable(logging.NOTSET)
