"""Measure the peak memory of loading a network and running it once, in a process of its own (`peak.py`)."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path

from compress.bench.backends import BACKENDS, RunConfig
from compress.core.errors import CompressError, Exit

TIMEOUT_S = 300.0
"""Seconds after which the process is stopped."""


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process that ran a file once, in bytes.

    Attributes:
        peak: largest value.
        added: `peak` minus the memory with the runtime imported and no network loaded.
    """

    peak: int
    added: int


def peak_memory(
    path: Path, config: RunConfig, backend: str = "ort-cpu", *, timeout_s: float = TIMEOUT_S
) -> Memory:
    """Return the peak host memory of a process that loads a network and runs it once.

    Args:
        path: the file or run folder.
        config: settings of the runner.
        backend: name of the back end.
        timeout_s: time limit in seconds.

    Raises:
        CompressError: the process failed or took too long (exit BUILD).
    """
    run_alone = BACKENDS.get_or_raise(backend).run_alone
    task = {
        "backend": backend,
        "path": str(path),
        "config": asdict(config),
        "function": "" if run_alone is None else run_alone.function.__name__,
        "source": "" if run_alone is None else textwrap.dedent(inspect.getsource(run_alone.function)),
    }
    try:
        process = subprocess.run(
            [sys.executable, "-P", str(Path(__file__).with_name("peak.py"))],
            input=json.dumps(task),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=True,
            env=importable_environment(),
        )
        memory = json.loads(process.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise CompressError(
            f"the memory of {str(path)!r} with batch {config.batch} could not be measured: {lines[-1]}",
            hint="the machine may be out of memory; try a smaller --batch",
            code="memory-failed",
            exit=Exit.BUILD,
        ) from error
    return Memory(peak=memory["peak"], added=max(0, memory["peak"] - memory["before"]))


def importable_environment() -> dict[str, str]:
    """Return this process's environment with its import path in PYTHONPATH, for a child process."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
