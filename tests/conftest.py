"""Settings of every test: one thread a process (the suite runs on all cores), no colour, no network hubs."""

from __future__ import annotations

import os
import signal

# a shell that starts the suite in the background has it ignore Ctrl-C, and so do the programs it starts
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NO_COLOR", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["COLUMNS"] = "160"

import pytest
import torch

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--zoo",
        action="store_true",
        default=os.environ.get("CI") == "true",
        help="all networks of the zoo, not only the sample (the default where CI=true)",
    )
