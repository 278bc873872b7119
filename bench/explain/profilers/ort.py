"""ONNX Runtime on the CPU: the events of its own profiler.

Its event of a node lasts from before the kernel to after the event's own arguments are written, which is
microseconds more than the kernel: `compress.bench.explain.overhead` measures how many.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from compress.bench.backends import RunConfig, Timed, backend_named
from compress.bench.backends.feeding import fixed_size, noise
from compress.bench.explain.profilers.registry import Profiled, RuntimeNode, Shape, register
from compress.export.onnx.session import CPU_PROVIDERS, open_session

CONVERTS = frozenset(("ReorderInput", "ReorderOutput"))
"""Operators by which it goes into and out of its blocked layout."""

_NODE, _RUN, _KERNEL = "Node", "model_run", "_kernel_time"
_BLOCKED = "_nchwc"


class OrtSession:
    """A session with the profiler on; it writes its events when it ends."""

    def __init__(self, path: Path, config: RunConfig) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="profile-")
        prefix = Path(self._folder.name) / "ort"
        self._session = open_session(path, threads=config.threads, providers=CPU_PROVIDERS, profile=prefix)
        entry = self._session.get_inputs()[0]
        self._feed = {entry.name: noise(config, fixed_size(path, entry.shape[1:]))}
        self._walls = list[float]()

    def run(self, count: int) -> None:
        """Run inferences."""
        for _ in range(count):
            start = time.perf_counter_ns()
            self._session.run(None, self._feed)
            self._walls.append(float(time.perf_counter_ns() - start))

    def finish(self) -> Profiled:
        """Read the events."""
        try:
            events = json.loads(Path(self._session.end_profiling()).read_text("utf-8"))
        finally:
            del self._session
            self._folder.cleanup()
        runs = _runs(events)
        nodes = tuple(_node(event) for event in runs[0])
        times = np.array([[float(event["dur"]) * 1e3 for event in run] for run in runs])
        return Profiled(nodes, times, np.array(self._walls))


@register
class OrtCpuProfiler:
    """Of ``ort-cpu``."""

    backend = "ort-cpu"
    source = "the kernel times of ONNX Runtime's own profiler"

    def open(self, path: Path, config: RunConfig) -> OrtSession:
        """Open a session with the profiler on."""
        return OrtSession(path, config)

    def timed(self, path: Path, config: RunConfig) -> Timed:
        """Open an ordinary session."""
        return backend_named(self.backend).load(path, config)


def _runs(events: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The events of the nodes, run by run."""
    runs, now = list[list[dict[str, Any]]](), list[dict[str, Any]]()
    for event in events:
        if event.get("cat") == _NODE and event["name"].endswith(_KERNEL):
            now.append(event)
        elif event["name"] == _RUN:
            runs.append(now)
            now = []
    return runs


def _node(event: dict[str, Any]) -> RuntimeNode:
    name, arguments = event["name"].removesuffix(_KERNEL), event["args"]
    op, blocked = str(arguments["op_name"]), name.endswith(_BLOCKED)
    origin = name.removesuffix(_BLOCKED)
    return RuntimeNode(
        name=name,
        op=op,
        kernel=f"{op} in blocked layout" if blocked else op,
        origins=(origin,),
        weight=_weight(arguments.get("input_type_shape", [])),
        converts=op in CONVERTS,
    )


def _weight(inputs: list[dict[str, list[int]]]) -> Shape | None:
    """Shape of the second input, as the event has it: ``[{"float": [1, 3, 8, 8]}, ...]``."""
    if len(inputs) < 2:
        return None
    return tuple(next(iter(inputs[1].values()), ()))
