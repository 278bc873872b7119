"""OpenVINO on the CPU: the counters of its compiled network.

A counter is the mean over all inferences since compilation, in whole microseconds. So a block is the
difference of two readings, and the network is compiled anew before rounding to whole microseconds adds up.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.explain.profilers.registry import Profiled, RuntimeNode, middle_mean, register
from bench.runners import RunConfig, Timed, backend_named
from bench.runners.feeding import noise
from bench.runners.openvino import properties

BLOCKS = 4
"""Blocks measured before the network is compiled anew."""

WARM = 2
"""Inferences after a compilation that are not counted."""

CONVERTS = frozenset(("Reorder", "Convert"))


class OpenVinoSession:
    """A network compiled with counters."""

    def __init__(self, path: Path, config: RunConfig) -> None:
        import openvino

        self._core = openvino.Core()
        self._model = self._core.read_model(path)
        shape = [int(d.get_length()) for d in list(self._model.input(0).partial_shape)[1:]]
        self._model.reshape([config.batch, *shape])
        self._properties = properties(config) | {"PERF_COUNT": True}
        self._feed = {0: noise(config, shape)}
        self._times, self._walls = list[NDArray[np.float64]](), list[float]()
        self._compile()

    def _compile(self) -> None:
        self._compiled = self._core.compile_model(self._model, "CPU", self._properties)
        self._request = self._compiled.create_infer_request()
        self._count, self._blocks = 0, 0

    def _infer(self, count: int) -> NDArray[np.float64]:
        walls = np.empty((count, 1))
        for i in range(count):
            start = time.perf_counter_ns()
            self._request.infer(self._feed, share_inputs=True)
            walls[i, 0] = time.perf_counter_ns() - start
        self._count += count
        return walls

    def _totals(self) -> NDArray[np.float64]:
        """Nanoseconds of each executed node since the compilation."""
        means = [entry.real_time.total_seconds() * 1e9 for entry in _executed(self._request)]
        return np.array(means) * self._count

    def run(self, count: int) -> None:
        """Run a block."""
        if self._blocks == BLOCKS:
            self._compile()
        if self._blocks == 0:
            self._infer(WARM)
        before = self._totals()
        walls = self._infer(count)
        self._times.append(np.maximum((self._totals() - before) / count, 0.0))
        self._walls.append(float(middle_mean(walls)[0]))
        self._blocks += 1

    def finish(self) -> Profiled:
        """Read what the nodes are."""
        origins = {
            op.get_friendly_name(): _origins(op) for op in self._compiled.get_runtime_model().get_ordered_ops()
        }
        nodes = tuple(
            RuntimeNode(
                name=entry.node_name,
                op=entry.node_type,
                kernel=entry.exec_type,
                origins=origins.get(entry.node_name, ()),
                converts=entry.node_type in CONVERTS,
            )
            for entry in _executed(self._request)
        )
        del self._request, self._compiled, self._model
        return Profiled(nodes, np.array(self._times), np.array(self._walls))


@register
class OpenVinoProfiler:
    """Of ``openvino``."""

    backend = "openvino"
    source = "the performance counters of OpenVINO's compiled network"

    def open(self, path: Path, config: RunConfig) -> OpenVinoSession:
        """Compile a file with counters."""
        return OpenVinoSession(path, config)

    def timed(self, path: Path, config: RunConfig) -> Timed:
        """Compile a file as it is benchmarked."""
        return backend_named(self.backend).load(path, config)


def _executed(request: Any) -> Sequence[Any]:
    return [entry for entry in request.get_profiling_info() if str(entry.status).endswith("EXECUTED")]


def _origins(op: Any) -> tuple[str, ...]:
    """Names of the file's nodes that a node of the compiled network came from."""
    info = op.get_rt_info()
    held = info["originalLayersNames"] if "originalLayersNames" in info else ""
    names = str(getattr(held, "value", held))
    return tuple(name for name in names.split(",") if name)
