"""A process of its own that loads one ONNX file, runs it once, and prints its memory as JSON.

Run as a script by `bench.memory`. It imports the runtime and nothing of this program, so that what it
measures is what a deployed process would hold.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def resident() -> tuple[int, int]:
    """Return the resident memory of this process in bytes: now, and at its peak so far.

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


def main(path: str, batch: int, threads: int) -> None:
    """Print ``{"before", "peak"}`` in bytes: with the runtime loaded, and after one inference."""
    import numpy as np
    import onnxruntime

    before = resident()[0]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    noise = np.random.default_rng(0).standard_normal((batch, *entry.shape[1:]), dtype=np.float32)
    session.run(None, {entry.name: noise})
    json.dump({"before": before, "peak": resident()[1]}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
