"""A process that computes: load on the machine while something is measured.

Run as a script with the form of the load and a seed; imports nothing that takes long.
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
"""Mean length of a phase of load and of one without, exponentially distributed."""


def compute(form: str, seed: int) -> None:
    """Compute, all the time or on and off, as long as the process lives that started this one."""
    noise, parent = random.Random(seed), os.getppid()
    while os.getppid() == parent:
        end = time.monotonic() + noise.expovariate(1 / PHASE_S)
        while time.monotonic() < end:
            sum(i * i for i in range(2000))
        if form != FORMS[0]:
            time.sleep(noise.expovariate(1 / PHASE_S))


@contextlib.contextmanager
def loaded(count: int, form: str, seed: int) -> Iterator[None]:
    """Have `count` processes compute while the block runs."""
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
