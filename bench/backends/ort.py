"""ONNX Runtime: on the CPU, and on an NVIDIA GPU with the CUDA or TensorRT provider."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from compress.bench.backends import cuda
from compress.bench.backends.base import Backend, Profiled, RunAlone, RunConfig, RuntimeNode, Shape, Timed
from compress.bench.backends.inputs import check_batch, fixed_size, host_times, noise
from compress.bench.backends.registry import BACKENDS
from compress.export.onnx.session import CPU_PROVIDERS, OnnxClassifier, open_session

ORT = {"onnxruntime": "onnxruntime-gpu"}
CUDA_PROVIDER = "CUDAExecutionProvider"
TENSORRT_PROVIDER = "TensorrtExecutionProvider"


class OrtCpuRunner:
    """A session with a fixed input; each time is one `session.run`.

    Raises:
        CompressError: see `compress.export.onnx.session.OnnxClassifier`; or the file has another fixed batch
            size.
    """

    def __init__(self, path: Path, config: RunConfig) -> None:
        start = time.perf_counter_ns()
        model = OnnxClassifier(path, threads=config.threads)
        self._load_ns = time.perf_counter_ns() - start
        check_batch(path, model.batch, config.batch)
        self._model, self._config = model, config
        self._feed = {model.inputs[0].name: noise(config, fixed_size(path, model.image_shape))}
        self._names = [model.outputs[0].name]

    @property
    def load_ns(self) -> int:
        """Nanoseconds from the file to a session, including graph optimization."""
        return self._load_ns

    @property
    def image_shape(self) -> tuple[int | str, ...]:
        """`(channels, height, width)` of one image."""
        return self._model.image_shape

    @property
    def num_classes(self) -> int | None:
        """Number of outputs; None if it is dynamic."""
        return self._model.num_classes

    @property
    def device_ns(self) -> None:
        """None, since there is no device clock."""
        return

    @property
    def settings(self) -> dict[str, str]:
        """Providers, threads and unchanged defaults."""
        return _settings(self._model, self._config) | {"allow_spinning": "default (on)"}

    def run(self, count: int) -> NDArray[np.int64]:
        """Run `count` inferences; return the nanoseconds of each."""
        run, names, feed = self._model.session.run, self._names, self._feed
        return host_times(lambda: run(names, feed), count)

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 `[N, classes]` for float32 `[N, C, H, W]`."""
        return self._model.logits(images)

    def close(self) -> None:
        """Free the session and its threads."""
        del self._model


class OrtGpuRunner:
    """A session on the GPU with input and output bound to buffers there; runs on their stream.

    Raises:
        CompressError: as `OrtCpuRunner`; or the provider fell back to another (exit MISSING).
    """

    def __init__(self, path: Path, config: RunConfig, provider: str) -> None:
        import onnxruntime

        if hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()  # the CUDA and cuDNN that torch brings serve ONNX Runtime too
        start = time.perf_counter_ns()
        stream = cuda.new_stream()
        chosen = [(provider, _provider_options(provider, config, stream.cuda_stream))]
        if provider == TENSORRT_PROVIDER:  # for operators that TensorRT does not support
            chosen.append((CUDA_PROVIDER, _provider_options(CUDA_PROVIDER, config, stream.cuda_stream)))
        self._model = OnnxClassifier(path, threads=config.threads, providers=chosen)
        self._load_ns = time.perf_counter_ns() - start
        check_batch(path, self._model.batch, config.batch)
        self._config = config
        image = fixed_size(path, self._model.image_shape)
        classes = self._model.num_classes or len(self._probe(image))
        self._buffers = cuda.Buffers(config, image, (config.batch, classes), stream=stream)
        self._binding = self._bound()
        self._options = onnxruntime.RunOptions()
        # the timing code waits for the stream, not the run itself
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._device: NDArray[np.int64] | None = None

    def _probe(self, image: tuple[int, int, int]) -> NDArray[np.float32]:
        first: NDArray[np.float32] = self._model.logits(noise(self._config, image))[0]
        return first

    def _bound(self) -> Any:
        binding, buffers = self._model.session.io_binding(), self._buffers
        for bind, tensor, name in (
            (binding.bind_input, buffers.x, self._model.inputs[0].name),
            (binding.bind_output, buffers.y, self._model.outputs[0].name),
        ):
            device = tensor.device.index or 0
            bind(name, "cuda", device, np.float32, tuple(tensor.shape), tensor.data_ptr())
        return binding

    def _launch(self) -> None:
        self._model.session.run_with_iobinding(self._binding, self._options)

    @property
    def load_ns(self) -> int:
        """Nanoseconds from the file to a session; TensorRT builds its engines in the first inference."""
        return self._load_ns

    @property
    def image_shape(self) -> tuple[int | str, ...]:
        """`(channels, height, width)` of one image."""
        return self._model.image_shape

    @property
    def num_classes(self) -> int | None:
        """Number of outputs; None if it is dynamic."""
        return self._model.num_classes

    @property
    def device_ns(self) -> NDArray[np.int64] | None:
        """Times of the last `run` between CUDA events."""
        return self._device

    @property
    def settings(self) -> dict[str, str]:
        """Providers, threads, the GPU and its options."""
        return _settings(self._model, self._config) | self._buffers.settings

    def run(self, count: int) -> NDArray[np.int64]:
        """Run `count` inferences; return the host's nanoseconds of each."""
        host, self._device = self._buffers.times(self._launch, count)
        return host

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 `[N, classes]` for float32 `[N, C, H, W]`."""
        return self._buffers.logits(self._launch, images)

    def close(self) -> None:
        """Free the session and the buffers."""
        del self._binding, self._model, self._buffers


CONVERTS = frozenset(("ReorderInput", "ReorderOutput"))
"""Operators that convert to and from the blocked layout."""

_NODE, _RUN, _KERNEL = "Node", "model_run", "_kernel_time"
_BLOCKED = "_nchwc"


class OrtProfileSession:
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
        """Return the nodes with their times, from the recorded events."""
        try:
            events = json.loads(Path(self._session.end_profiling()).read_text("utf-8"))
        finally:
            del self._session
            self._folder.cleanup()
        runs = _node_events(events)
        nodes = tuple(_runtime_node(event) for event in runs[0])
        times = np.array([[float(event["dur"]) * 1e3 for event in run] for run in runs])
        return Profiled(nodes, times, np.array(self._walls))


class OrtCpuProfiler:
    """The profiler of ONNX Runtime on the CPU.

    The event of a node lasts from before the kernel until its own arguments are written, which takes some
    microseconds more than the kernel; `compress.bench.explain.overhead` measures this difference.
    """

    source = "the kernel times of ONNX Runtime's own profiler"

    def open(self, path: Path, config: RunConfig) -> OrtProfileSession:
        """Open a session with the profiler on."""
        return OrtProfileSession(path, config)

    def load_probe(self, path: Path, config: RunConfig) -> Timed:
        """Open an ordinary session."""
        return OrtCpuRunner(path, config)


def _node_events(events: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the events of the nodes of each run."""
    runs, now = list[list[dict[str, Any]]](), list[dict[str, Any]]()
    for event in events:
        if event.get("cat") == _NODE and event["name"].endswith(_KERNEL):
            now.append(event)
        elif event["name"] == _RUN:
            runs.append(now)
            now = []
    return runs


def _runtime_node(event: dict[str, Any]) -> RuntimeNode:
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
    """Return the shape of the second input; the event lists ``[{"float": [1, 3, 8, 8]}, ...]``."""
    if len(inputs) < 2:
        return None
    return tuple(next(iter(inputs[1].values()), ()))


def _run_alone(path: str, config: dict[str, Any], before: Callable[[], None]) -> None:
    """Run an ONNX file once; see `RunAlone`."""
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


@BACKENDS.register("ort-cpu")
class OrtCpu(Backend):
    """``--backend ort-cpu``."""

    name = "ort-cpu"
    summary = "ONNX Runtime on the CPU"
    profiler = OrtCpuProfiler()
    run_alone = RunAlone(_run_alone)
    packages: ClassVar[Mapping[str, str]] = {"onnxruntime": "onnxruntime"}
    reads: ClassVar[tuple[str, ...]] = (".onnx",)
    options: ClassVar[frozenset[str]] = frozenset()

    def load(self, path: Path, config: RunConfig) -> OrtCpuRunner:
        """Open a session with the CPU provider."""
        return OrtCpuRunner(path, config)

    def describe_timing(self, config: RunConfig) -> str:
        """Return what a time includes: one `session.run`."""
        return (
            "one session.run of ONNX Runtime on the CPU, NumPy array in and a new NumPy array out; "
            "reading, decoding and normalizing images is not included"
        )


class _OrtGpu(Backend):
    """Base class of the back ends with a GPU provider."""

    provider: ClassVar[str]
    packages: ClassVar[Mapping[str, str]] = ORT
    reads: ClassVar[tuple[str, ...]] = (".onnx",)
    options: ClassVar[frozenset[str]] = frozenset({"cuda_graph", "transfers"})

    def check(self, config: RunConfig) -> None:
        """Check that there is an NVIDIA GPU."""
        cuda.require_gpu(self.name)

    def load(self, path: Path, config: RunConfig) -> OrtGpuRunner:
        """Open a session with the provider."""
        self.check(config)
        return OrtGpuRunner(path, config, self.provider)

    def describe_timing(self, config: RunConfig) -> str:
        """Return what a time includes: one run with bound buffers."""
        return cuda.timed(f"one run of ONNX Runtime ({self.provider}) with IO binding", config)


@BACKENDS.register("ort-cuda")
class OrtCuda(_OrtGpu):
    """``--backend ort-cuda``."""

    name = "ort-cuda"
    summary = "ONNX Runtime on an NVIDIA GPU, CUDA provider"
    provider = CUDA_PROVIDER


@BACKENDS.register("ort-trt")
class OrtTensorRT(_OrtGpu):
    """``--backend ort-trt``; needs the libraries in the TensorRT wheel."""

    name = "ort-trt"
    summary = "ONNX Runtime on an NVIDIA GPU, TensorRT provider"
    provider = TENSORRT_PROVIDER
    packages: ClassVar[Mapping[str, str]] = {**ORT, "tensorrt": "tensorrt"}

    def load(self, path: Path, config: RunConfig) -> OrtGpuRunner:
        """Open a session with the provider; importing TensorRT loads its libraries."""
        import importlib

        self.check(config)
        importlib.import_module("tensorrt")
        return OrtGpuRunner(path, config, self.provider)


def _provider_options(provider: str, config: RunConfig, stream: int) -> dict[str, str]:
    graph = "trt_cuda_graph_enable" if provider == TENSORRT_PROVIDER else "enable_cuda_graph"
    options = {"device_id": "0", "user_compute_stream": str(stream)}
    return options | ({graph: "1"} if config.cuda_graph else {})


def _settings(model: OnnxClassifier, config: RunConfig) -> dict[str, str]:
    import onnxruntime

    defaults = onnxruntime.SessionOptions()
    return {
        "onnxruntime": onnxruntime.__version__,
        "providers": ", ".join(model.session.get_providers()),
        "intra_op_num_threads": str(config.threads),
        "inter_op_num_threads": "1",
        "execution_mode": str(defaults.execution_mode).rpartition(".")[2],
        "graph_optimization_level": str(defaults.graph_optimization_level).rpartition(".")[2],
    }
