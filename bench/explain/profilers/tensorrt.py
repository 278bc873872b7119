"""TensorRT and TensorRT-RTX on an NVIDIA GPU: the `IProfiler` of an execution context."""

from __future__ import annotations

import hashlib
import importlib
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.bench.backends import Backend, RunConfig, Timed, backend_named
from compress.bench.backends.tensorrt import EngineRunner
from compress.bench.explain.profilers.registry import Profiled, RuntimeNode, register
from compress.core.files import write_bytes

FUSED = " + "
"""Between the names of the file's nodes in the name of a fused layer."""


class EngineSession:
    """An engine whose context reports the time of each of its layers."""

    def __init__(self, module: Any, path: Path, config: RunConfig) -> None:
        self._runner = EngineRunner(module, path, replace(config, cuda_graph=False))
        self._seen = seen = list[tuple[str, float]]()

        class Keeping(module.IProfiler):  # type: ignore[misc]
            def __init__(self) -> None:
                module.IProfiler.__init__(self)

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                seen.append((layer_name, ms))

        self._profiler = Keeping()
        self._runner.context.profiler = self._profiler
        self._names: tuple[str, ...] = ()
        self._times, self._walls = list[NDArray[np.float64]](), list[float]()

    def run(self, count: int) -> None:
        """Run inferences."""
        for _ in range(count):
            self._seen.clear()
            start = time.perf_counter_ns()
            self._runner.run(1)
            self._walls.append(float(time.perf_counter_ns() - start))
            self._names = self._names or tuple(name for name, _ in self._seen)
            self._times.append(np.array([1e6 * ms for _, ms in self._seen]))

    def finish(self) -> Profiled:
        """Return what was measured."""
        self._runner.close()
        return Profiled(tuple(map(node, self._names)), np.array(self._times), np.array(self._walls))


class _Profiler:
    """What the two packages share."""

    backend: str
    source: str

    def open(self, path: Path, config: RunConfig) -> EngineSession:
        """Load an engine, or build one of a small ONNX file, with the profiler on."""
        runtime = backend_named(self.backend)
        runtime.check(config)
        engine, trusted = _engine(runtime, path, config)
        return EngineSession(_module(runtime), engine, trusted)

    def timed(self, path: Path, config: RunConfig) -> Timed:
        """Build an engine of a small ONNX file."""
        runtime = backend_named(self.backend)
        engine, trusted = _engine(runtime, path, config)
        return runtime.load(engine, trusted)


@register
class TensorRTProfiler(_Profiler):
    """Of ``trt``."""

    backend = "trt"
    source = "the device times of TensorRT's IProfiler"


@register
class TensorRTRTXProfiler(_Profiler):
    """Of ``trt-rtx``."""

    backend = "trt-rtx"
    source = "the device times of TensorRT-RTX's IProfiler"


def node(name: str) -> RuntimeNode:
    """Return a layer of an engine: its name holds the names of the nodes it was fused from."""
    bare = name.partition(" ForeignNode")[0].strip()
    origins = tuple(part.strip(" []()") for part in bare.split(FUSED))
    converts = name.startswith(("Reformat", "reformat", "Copy")) or "CopyNode" in name
    return RuntimeNode(
        name=name,
        op="Reformat" if converts else "Layer",
        kernel=FUSED.join(origins) if len(origins) > 1 else "alone",
        origins=() if converts else origins,
        converts=converts,
    )


def _module(runtime: Backend) -> Any:
    return importlib.import_module(_package(runtime.requires))


def _package(requires: Mapping[str, str]) -> str:
    return next(iter(requires))


def _engine(runtime: Backend, path: Path, config: RunConfig) -> tuple[Path, RunConfig]:
    """An engine as it is, or one built of a small ONNX file beside it; with what vouches for it."""
    if path.suffix != ".onnx":
        return path, config
    from compress.export.formats.tensorrt_build import build_engine
    from compress.export.options import BatchRange, Options

    name = _package(runtime.requires)
    sizes = BatchRange(config.batch, config.batch, config.batch)
    built = build_engine(importlib.import_module(name), path, Options(batch=sizes), name)
    engine = path.with_suffix(runtime.reads[0])
    write_bytes(engine, memoryview(built.data))
    return engine, replace(config, sha256=hashlib.sha256(built.data).hexdigest())
