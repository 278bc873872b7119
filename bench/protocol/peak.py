"""A process of its own that loads one network, runs it once, and prints its memory as JSON.

Run as a script by `compress.bench.protocol.memory`. For ONNX Runtime and OpenVINO on the CPU it imports the runtime and nothing
of this program, so that what it measures is what a deployed process would hold. The other back ends need
torch for their modules or buffers; they run through their runners.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


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


Before = Callable[[], None]
"""Called when the runtime is imported and no network is loaded."""


def onnxruntime_once(path: str, config: dict[str, Any], before: Before) -> None:
    """Run an ONNX file once in ONNX Runtime on the CPU."""
    import numpy as np
    import onnxruntime

    before()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = config["threads"]
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    noise = np.random.default_rng(0).standard_normal((config["batch"], *entry.shape[1:]), dtype=np.float32)
    session.run(None, {entry.name: noise})


def openvino_once(path: str, config: dict[str, Any], before: Before) -> None:
    """Run a file once in OpenVINO on the CPU."""
    import numpy as np
    import openvino

    core = openvino.Core()
    before()
    model = core.read_model(path)
    shape = [config["batch"], *(size.get_length() for size in list(model.input(0).partial_shape)[1:])]
    model.reshape(shape)
    properties = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": config["threads"],
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(model, "CPU", properties).create_infer_request()
    request.infer({0: np.random.default_rng(0).standard_normal(shape, dtype=np.float32)}, share_inputs=True)


def runner_once(backend: str, path: str, config: dict[str, Any], before: Before) -> None:
    """Run a network once through the runner of a back end, whose packages are imported first."""
    import importlib

    from compress.bench.backends import RunConfig, backend_named

    found = backend_named(backend)
    for package in ("torch", *found.requires):
        importlib.import_module(package)
    before()
    runner = found.load(Path(path), RunConfig(**config))
    runner.run(1)


def main(backend: str, path: str, config: dict[str, Any]) -> None:
    """Print ``{"before", "peak"}`` in bytes: with the runtime loaded, and after one inference."""
    held: list[int] = []

    def before() -> None:
        held.append(resident()[0])

    if backend == "ort-cpu":
        onnxruntime_once(path, config, before)
    elif backend == "openvino":
        openvino_once(path, config, before)
    else:
        runner_once(backend, path, config, before)
    print(json.dumps({"before": held[0], "peak": resident()[1]}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
