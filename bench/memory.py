"""Peak memory of loading and running a file once, each file in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from compress.errors import CompressError, Exit

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


def peak_memory(path: Path, batch: int, threads: int, *, timeout_s: float = TIMEOUT_S) -> Memory:
    """Return the peak memory of one inference of an ONNX file in ONNX Runtime on the CPU.

    Args:
        path: the file.
        batch: images of the inference.
        threads: intra-op threads.
        timeout_s: seconds it may take.

    Raises:
        CompressError: the process failed or took too long (exit BUILD).
    """
    script = Path(__file__).with_name("peak.py")
    command = [sys.executable, "-P", str(script), str(path), str(batch), str(threads)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=True)
        found = json.loads(done.stdout)
    except (subprocess.SubprocessError, ValueError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise CompressError(
            f"the memory of {str(path)!r} with batch {batch} could not be measured: {said[-1]}",
            hint="the machine may be out of memory; try a smaller --batch",
            code="memory-failed",
            exit=Exit.BUILD,
        ) from error
    return Memory(peak=found["peak"], added=max(0, found["peak"] - found["before"]))
