"""Script of the memory measurement: load one network, run it once, print the process's memory as JSON.

`compress.bench.protocol.memory` starts it. If the back end has a `run_alone` function, its source text is
executed here and nothing of this program is imported, so that the process holds what a deployed one would
hold. Otherwise the network runs through the back end's runner, with its packages and torch imported first.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def resident() -> tuple[int, int]:
    """Return the resident memory of this process in bytes: now, and its peak so far.

    On Linux the peak is VmHWM: `ru_maxrss` of a started process begins at its parent's peak.
    """
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        now, peak = (int(fields[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))
        return now, peak
    import psutil

    info = psutil.Process().memory_info()
    if sys.platform == "win32":
        return int(info.rss), int(info.peak_wset)
    import resource

    return int(info.rss), int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def run_with_runner(backend: str, path: str, config: dict[str, Any], before: Callable[[], None]) -> None:
    """Run a network once through the runner of a back end, whose packages are imported first."""
    import importlib

    from compress.bench.backends import RunConfig, get_backend

    runtime = get_backend(backend)
    for package in ("torch", *runtime.packages):
        importlib.import_module(package)
    before()
    runtime.load(Path(path), RunConfig(**config)).run(1)


def main() -> None:
    """Run the network that stdin describes; print ``{"before", "peak"}`` in bytes.

    ``before`` is the memory with the runtime imported and no network loaded.
    """
    task = json.loads(sys.stdin.read())
    before: list[int] = []

    def record_before() -> None:
        before.append(resident()[0])

    if task["function"]:
        scope: dict[str, Any] = {"Any": Any, "Callable": Callable}
        exec(compile(task["source"], task["function"], "exec"), scope)
        scope[task["function"]](task["path"], task["config"], record_before)
    else:
        run_with_runner(task["backend"], task["path"], task["config"], record_before)
    print(json.dumps({"before": before[0], "peak": resident()[1]}))


if __name__ == "__main__":
    main()
