"""OpenVINO on the CPU: the counters of its compiled network.

A counter is the mean over all inferences since compilation, in whole microseconds. So a sample is the
difference of two readings, and the network is compiled anew before rounding to whole microseconds adds up.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.bench.backends import RunConfig, Timed, backend_named
from compress.bench.backends.feeding import noise
from compress.bench.backends.openvino import properties
from compress.bench.explain.profilers.registry import Profiled, RuntimeNode, register

SAMPLE_NS = 3_000_000
"""Inferences of about this long together make a sample: short, so that some are not interrupted."""

LONG_NS = 20_000_000
"""From here on an inference is a sample by itself: its layers take far more than a few microseconds."""

FEW = 4
"""Fewest shorter inferences in a sample."""

SAMPLES = {True: 5, False: 2}
"""Samples taken of long and of shorter inferences before the network is compiled anew."""

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
        self._count, self._samples = 0, 0
        self._infer(WARM)

    def _infer(self, count: int) -> None:
        start = time.perf_counter_ns()
        for _ in range(count):
            self._request.infer(self._feed, share_inputs=True)
        self._walls.append((time.perf_counter_ns() - start) / count)
        self._count += count

    def _totals(self) -> NDArray[np.float64]:
        """Nanoseconds of each node since the compilation."""
        means = [entry.real_time.total_seconds() * 1e9 for entry in self._request.get_profiling_info()]
        return np.array(means) * self._count

    def run(self, count: int) -> None:
        """Run inferences, in samples."""
        wall = min(self._walls)
        is_long = wall >= LONG_NS
        size = 1 if is_long else max(FEW, round(SAMPLE_NS / wall))
        for _ in range(max(1, round(count / size))):
            if self._samples == SAMPLES[is_long]:
                self._compile()
            before = self._totals()
            self._infer(size)
            self._times.append(np.maximum((self._totals() - before) / size, 0.0))
            self._samples += 1

    def finish(self) -> Profiled:
        """Read what the nodes are."""
        origins = {
            op.get_friendly_name(): _origins(op)
            for op in self._compiled.get_runtime_model().get_ordered_ops()
        }
        times = np.array(self._times)
        entries = self._request.get_profiling_info()
        runs = [i for i, entry in enumerate(entries) if _runs(entry) or times[:, i].any()]
        nodes = tuple(
            RuntimeNode(
                name=entry.node_name,
                op=entry.node_type,
                kernel=entry.exec_type,
                origins=origins.get(entry.node_name, ()),
                converts=entry.node_type in CONVERTS,
            )
            for entry in (entries[i] for i in runs)
        )
        del self._request, self._compiled, self._model
        return Profiled(nodes, times[:, runs], np.array(self._walls))


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


def _runs(entry: Any) -> bool:
    """Whether a node is computed though it may take less than a microsecond; its status then denies it."""
    return not entry.exec_type.startswith(("undef", "unknown")) and entry.node_type not in CONVERTS


def _origins(op: Any) -> tuple[str, ...]:
    """Names of the file's nodes that a node of the compiled network came from."""
    info = op.get_rt_info()
    held = info["originalLayersNames"] if "originalLayersNames" in set(info.keys()) else ""
    names = str(getattr(held, "value", held))
    return tuple(name for name in names.split(",") if name)
