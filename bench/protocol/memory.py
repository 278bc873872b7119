"""Peak memory of loading and running a file once, each file in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from compress.bench.backends import RunConfig
from compress.core.errors import CompressError, Exit

TIMEOUT_S = 300.0
"""Seconds after which the process is stopped."""


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process that ran a file once, in bytes.

    Attributes:
        peak: the most it ever held.
        added: `peak` less what it held with the runtime imported and no file loaded.
    """

    peak: int
    added: int


def peak_memory(
    path: Path, config: RunConfig, backend: str = "ort-cpu", *, timeout_s: float = TIMEOUT_S
) -> Memory:
    """Return the peak memory of the host for loading a network and running it once.

    Args:
        path: the file or run folder.
        config: how it is loaded and fed.
        backend: name of the back end.
        timeout_s: seconds it may take.

    Raises:
        CompressError: the process failed or took too long (exit BUILD).
    """
    script = Path(__file__).with_name("peak.py")
    command = [sys.executable, "-P", str(script), backend, str(path), json.dumps(asdict(config))]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=True, env=importable()
        )
        found = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise CompressError(
            f"the memory of {str(path)!r} with batch {config.batch} could not be measured: {said[-1]}",
            hint="the machine may be out of memory; try a smaller --batch",
            code="memory-failed",
            exit=Exit.BUILD,
        ) from error
    return Memory(peak=found["peak"], added=max(0, found["peak"] - found["before"]))


def importable() -> dict[str, str]:
    """Return this process's environment, so that a process started with it imports what this one can."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
