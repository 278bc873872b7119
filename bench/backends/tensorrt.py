"""TensorRT engines on an NVIDIA GPU: one code path over the module object, `tensorrt` or `tensorrt_rtx`.

An engine is native code: its hash and the machine it was built for are compared with the manifest before any
byte of it is deserialized.
"""

from __future__ import annotations

import hashlib
import importlib
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from compress.bench.backends import cuda
from compress.bench.backends.base import RTX_ENGINE, Backend, Profiled, RunConfig, RuntimeNode, Timed
from compress.bench.backends.inputs import check_batch, fixed_size
from compress.bench.backends.registry import BACKENDS
from compress.core.errors import CompressError, Exit
from compress.core.files import write_bytes


class EngineRunner:
    """An engine with its execution context, its buffers in torch tensors, and its own CUDA stream.

    Args:
        module: `tensorrt` or `tensorrt_rtx`.
        path: the engine, with the manifest in its folder.
        config: its `trust` allows an engine without a manifest.

    Raises:
        CompressError: the engine is not trusted or was built on another machine (see
            `compress.export.trust.loading.check_loadable`), TensorRT cannot load it (exit MISSING), or the
            batch size is outside of its profile.
    """

    def __init__(self, module: Any, path: Path, config: RunConfig) -> None:
        start = time.perf_counter_ns()
        self._trt, self._path, self._config = module, path, config
        self._log = _logger(module)
        self._engine = self._load_engine()
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise self._failed("an execution context cannot be created")
        source, result = self._tensors()
        self._shape = fixed_size(path, _sizes(self._engine.get_tensor_shape(source))[1:])
        self._check_profile(source)
        if not self._context.set_input_shape(source, (config.batch, *self._shape)):
            raise self._failed(f"the batch size {config.batch} is not accepted")
        missing = self._context.infer_shapes()
        if missing:
            raise self._failed(f"unknown shapes: {', '.join(missing)}")
        output = tuple(int(size) for size in self._context.get_tensor_shape(result))
        self._classes = output[-1]
        self._buffers = cuda.Buffers(config, self._shape, output)
        self._context.set_tensor_address(source, self._buffers.x.data_ptr())
        self._context.set_tensor_address(result, self._buffers.y.data_ptr())
        self._launch = self._enqueue
        self._buffers.times(self._enqueue, 1)  # before a capture every lazy step must be done
        if config.cuda_graph:
            self._launch = self._buffers.captured(self._enqueue)
        self._device: NDArray[np.int64] | None = None
        self._load_ns = time.perf_counter_ns() - start

    def _load_engine(self) -> Any:
        """Load the engine after comparing its hash with the manifest."""
        expected, version_compat = self._expected_hash()
        content = self._path.read_bytes()
        if expected is not None and hashlib.sha256(content).hexdigest() != expected:
            raise CompressError(
                f"{str(self._path)!r} changed while it was being opened",
                hint="export it again",
                code="changed-file",
                exit=Exit.MISSING,
            )
        runtime = self._trt.Runtime(self._log)
        if version_compat:
            runtime.engine_host_code_allowed = True  # it contains its own runtime, and its hash was verified
        engine = runtime.deserialize_cuda_engine(content)
        if engine is None:
            raise self._failed("it cannot be deserialized")
        self._runtime = runtime
        return engine

    def _expected_hash(self) -> tuple[str | None, bool]:
        """Return the expected SHA-256, and whether the engine contains its own runtime.

        The hash is None only if the user trusts a file that is in no manifest.
        """
        if self._config.sha256 is not None:
            return self._config.sha256, False
        from compress.export.trust.loading import check_loadable  # type: ignore[import-not-found, unused-ignore]

        record = check_loadable(self._path, trust=self._config.trust)
        if record is None:
            return None, False
        return record.sha256, bool(record.details.get("build", {}).get("version_compat"))

    def _tensors(self) -> tuple[str, str]:
        """Return the names of the input and the output, both float32."""
        engine, trt = self._engine, self._trt
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        modes = {name: engine.get_tensor_mode(name) for name in names}
        sources = [name for name in names if modes[name] == trt.TensorIOMode.INPUT]
        results = [name for name in names if modes[name] == trt.TensorIOMode.OUTPUT]
        floats = all(engine.get_tensor_dtype(name) == trt.DataType.FLOAT for name in names)
        ranks = [len(engine.get_tensor_shape(name)) for name in (*sources, *results)]
        if ranks != [4, 2] or not floats:
            raise CompressError(
                f"{str(self._path)!r} is not an image classifier: its tensors are {', '.join(names)}",
                hint="it must have one float32 input [batch, channels, height, width] and a float32 output "
                "[batch, classes]",
                code="not-a-classifier",
            )
        return sources[0], results[0]

    def _check_profile(self, source: str) -> None:
        first = int(self._engine.get_tensor_shape(source)[0])
        check_batch(self._path, first if first >= 0 else None, self._config.batch)
        low, best, high = (int(shape[0]) for shape in self._engine.get_tensor_profile_shape(source, 0))
        self._profile = f"{low}:{best}:{high}"
        if not low <= self._config.batch <= high:
            raise CompressError(
                f"{str(self._path)!r} takes batches of {low} to {high}, not {self._config.batch}",
                hint=f"give --batch {low} to {high}, or export with --batch MIN:OPT:MAX",
                code="profile",
                details={"min": low, "max": high, "asked": self._config.batch},
            )

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._buffers.stream.cuda_stream):
            raise self._failed("an inference failed")

    def _failed(self, what: str) -> CompressError:
        message = f": {self._log.last}" if self._log.last else ""
        name = self._trt.__name__
        return CompressError(
            f"{name} {self._trt.__version__} does not run {str(self._path)!r}: {what}{message}",
            hint="export it again on this machine",
            code="bad-engine",
            exit=Exit.MISSING,
            details={"runtime": name, "version": self._trt.__version__},
        )

    @property
    def context(self) -> Any:
        """TensorRT's execution context, for its profiler."""
        return self._context

    @property
    def load_ns(self) -> int:
        """Nanoseconds from the file to the end of a first inference, including verification."""
        return self._load_ns

    @property
    def image_shape(self) -> tuple[int | str, ...]:
        """`(channels, height, width)` of one image."""
        return self._shape

    @property
    def num_classes(self) -> int | None:
        """Number of outputs."""
        return self._classes

    @property
    def device_ns(self) -> NDArray[np.int64] | None:
        """Times of the last `run` between CUDA events."""
        return self._device

    @property
    def settings(self) -> dict[str, str]:
        """The runtime's version, the GPU and its options."""
        own = {self._trt.__name__: self._trt.__version__, "profile": self._profile}
        return own | self._buffers.settings

    def run(self, count: int) -> NDArray[np.int64]:
        """Run `count` inferences; return the host's nanoseconds of each."""
        host, self._device = self._buffers.times(self._launch, count)
        return host

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 `[N, classes]` for float32 `[N, C, H, W]`."""
        return self._buffers.logits(self._launch, images)

    def close(self) -> None:
        """Free the context before the engine, and the engine before the runtime."""
        del self._launch, self._context, self._engine, self._runtime, self._buffers


FUSED = " + "
"""Separator of the node names in the name of a fused layer."""


class EngineProfileSession:
    """An engine whose context reports the time of each of its layers."""

    def __init__(self, module: Any, path: Path, config: RunConfig) -> None:
        self._runner = EngineRunner(module, path, replace(config, cuda_graph=False))
        self._seen = seen = list[tuple[str, float]]()

        class Recorder(module.IProfiler):  # type: ignore[misc]
            def __init__(self) -> None:
                module.IProfiler.__init__(self)

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                seen.append((layer_name, ms))

        self._profiler = Recorder()
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
        """Return the nodes with their times."""
        self._runner.close()
        return Profiled(tuple(map(layer_node, self._names)), np.array(self._times), np.array(self._walls))


class EngineProfiler:
    """The `IProfiler` of an execution context.

    Args:
        module: `tensorrt` or `tensorrt_rtx`.
        suffix: suffix of its engines.
        product: product name for messages.
    """

    def __init__(self, module: str, suffix: str, product: str) -> None:
        self._module, self._suffix = module, suffix
        self.source = f"the device times of {product}'s IProfiler"

    def open(self, path: Path, config: RunConfig) -> EngineProfileSession:
        """Load an engine, or build one from a small ONNX file, with the profiler enabled."""
        engine, trusted = self._engine(path, config)
        return EngineProfileSession(importlib.import_module(self._module), engine, trusted)

    def load_probe(self, path: Path, config: RunConfig) -> Timed:
        """Build an engine from a small ONNX file and load it."""
        engine, trusted = self._engine(path, config)
        return EngineRunner(importlib.import_module(self._module), engine, trusted)

    def _engine(self, path: Path, config: RunConfig) -> tuple[Path, RunConfig]:
        """Return an engine and its configuration; an engine for an ONNX file is built in the same folder."""
        cuda.require_gpu(self._module)
        if path.suffix != ".onnx":
            return path, config
        from compress.export.formats.tensorrt_build import build_engine
        from compress.export.options import BatchRange, Options

        sizes = BatchRange(config.batch, config.batch, config.batch)
        module = importlib.import_module(self._module)
        built = build_engine(module, path, Options(batch=sizes), self._module)
        engine = path.with_suffix(self._suffix)
        write_bytes(engine, memoryview(built.data))
        return engine, replace(config, sha256=hashlib.sha256(built.data).hexdigest())


def layer_node(name: str) -> RuntimeNode:
    """Return a layer of an engine: its name contains the names of the fused nodes."""
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


class _TensorRT(Backend):
    """Base class of the two packages."""

    module: ClassVar[str]
    options: ClassVar[frozenset[str]] = frozenset({"cuda_graph", "transfers", "trust"})

    def check(self, config: RunConfig) -> None:
        """Check that there is an NVIDIA GPU."""
        cuda.require_gpu(self.name)

    def load(self, path: Path, config: RunConfig) -> EngineRunner:
        """Load an engine whose hash matches the manifest."""
        self.check(config)
        return EngineRunner(importlib.import_module(self.module), path, config)

    def describe_timing(self, config: RunConfig) -> str:
        """Return what a time includes: one inference by `execute_async_v3`."""
        how = "one replay of its CUDA graph" if config.cuda_graph else "one execute_async_v3"
        return cuda.timed(f"{how} of {self.module} on its own stream", config)


@BACKENDS.register("trt")
class TensorRT(_TensorRT):
    """``--backend trt``."""

    name = "trt"
    summary = "TensorRT engines on an NVIDIA GPU"
    profiler = EngineProfiler("tensorrt", ".engine", "TensorRT")
    module = "tensorrt"
    packages: ClassVar[Mapping[str, str]] = {"tensorrt": "tensorrt"}
    reads: ClassVar[tuple[str, ...]] = (".engine",)


@BACKENDS.register("trt-rtx")
class TensorRTRTX(_TensorRT):
    """``--backend trt-rtx``."""

    name = "trt-rtx"
    summary = "TensorRT-RTX engines on an NVIDIA GPU"
    profiler = EngineProfiler("tensorrt_rtx", RTX_ENGINE, "TensorRT-RTX")
    module = "tensorrt_rtx"
    packages: ClassVar[Mapping[str, str]] = {"tensorrt_rtx": "tensorrt-rtx"}
    reads: ClassVar[tuple[str, ...]] = (RTX_ENGINE,)


def _sizes(shape: Any) -> list[int | str]:
    return [int(size) if size >= 0 else "?" for size in shape]


def _logger(trt: Any) -> Any:
    """Return a logger that keeps the last error's text and prints nothing."""

    class Recorder(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last = ""

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.last = " ".join(message.split())

    return Recorder()
