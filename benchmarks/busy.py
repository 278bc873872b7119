"""Processes that put load on the CPU during a measurement.

Run as a script with the form of the load and a seed. Imports only modules that load fast.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator

FORMS = ("steady", "on and off")
"""Kinds of load."""

PHASE_S = 0.7
"""Mean seconds of a phase with load and of one without; both are exponentially distributed."""


def compute(form: str, seed: int) -> None:
    """Compute, steadily or on and off, until the parent process ends."""
    noise, parent = random.Random(seed), os.getppid()
    while os.getppid() == parent:
        end = time.monotonic() + noise.expovariate(1 / PHASE_S)
        while time.monotonic() < end:
            sum(i * i for i in range(2000))
        if form != FORMS[0]:
            time.sleep(noise.expovariate(1 / PHASE_S))


@contextlib.contextmanager
def loaded(count: int, form: str, seed: int) -> Iterator[None]:
    """Run `count` computing processes during the block."""
    command = [sys.executable, __file__, form]
    processes = [subprocess.Popen([*command, str(1000 * seed + i)]) for i in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


if __name__ == "__main__":
    compute(sys.argv[1], int(sys.argv[2]))
