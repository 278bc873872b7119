"""OpenVINO on the CPU: ONNX files and OpenVINO files (.xml with a .bin)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from compress.bench.backends.base import Backend, Profiled, RunAlone, RunConfig, RuntimeNode, Timed
from compress.bench.backends.inputs import check_batch, fixed_size, host_times, in_batches, noise
from compress.bench.backends.registry import BACKENDS
from compress.core.errors import CompressError, Exit

PRECISION = "f32"
"""Precision of the operators that are not quantized.

By default the plugin computes a float32 file in bfloat16 on processors that support it; its results would not
be comparable with those of other back ends."""


class OpenVinoRunner:
    """A network compiled for the CPU at one batch size, with one infer request.

    Raises:
        CompressError: OpenVINO cannot read or compile the file (exit MISSING), or the file is not an
            image classifier for this batch size.
    """

    def __init__(self, path: Path, config: RunConfig) -> None:
        import openvino

        start = time.perf_counter_ns()
        core = openvino.Core()
        self._batch = config.batch
        try:
            model = core.read_model(path)
        except RuntimeError as error:
            raise _unreadable(path, error) from error
        self._shape, self._classes = _interface(path, model, config.batch)
        try:
            model.reshape([config.batch, *self._shape])
            self._compiled = core.compile_model(model, "CPU", properties(config))
        except RuntimeError as error:
            raise _unreadable(path, error) from error
        self._request = self._compiled.create_infer_request()
        self._load_ns = time.perf_counter_ns() - start
        self._feed = {0: noise(config, self._shape)}

    @property
    def load_ns(self) -> int:
        """Nanoseconds from the file to an infer request, compilation included."""
        return self._load_ns

    @property
    def image_shape(self) -> tuple[int | str, ...]:
        """`(channels, height, width)` of one image."""
        return self._shape

    @property
    def num_classes(self) -> int | None:
        """Number of outputs; None if it is dynamic."""
        return self._classes

    @property
    def device_ns(self) -> None:
        """None, since there is no device clock."""
        return

    @property
    def settings(self) -> dict[str, str]:
        """Settings that the compiled network reports."""
        import openvino

        properties = (
            "INFERENCE_NUM_THREADS",
            "NUM_STREAMS",
            "PERFORMANCE_HINT",
            "INFERENCE_PRECISION_HINT",
            "ENABLE_CPU_PINNING",
            "ENABLE_HYPER_THREADING",
        )
        values = {name.lower(): _property_text(self._compiled.get_property(name)) for name in properties}
        return {"openvino": openvino.__version__, "device": "CPU", **values, "shapes": "fixed to the batch"}

    def run(self, count: int) -> NDArray[np.int64]:
        """Run `count` inferences; return the nanoseconds of each."""
        infer, feed = self._request.infer, self._feed
        return host_times(lambda: infer(feed, share_inputs=True), count)

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 `[N, classes]` for float32 `[N, C, H, W]`."""

        def run(full: NDArray[np.float32]) -> NDArray[np.float32]:
            outputs: NDArray[np.float32] = self._request.infer({0: full}, share_inputs=True)[0]
            return outputs

        return in_batches(run, images, self._batch)

    def close(self) -> None:
        """Free the request and the compiled network."""
        del self._request, self._compiled


SAMPLE_NS = 3_000_000
"""Duration of a sample of several inferences (3 ms): short, so that some samples are not interrupted."""

LONG_NS = 20_000_000
"""Inferences of at least this length (20 ms) are samples of their own."""

FEW = 4
"""Minimum number of inferences in a sample of several."""

SAMPLES = {True: 5, False: 2}
"""Number of samples before the network is compiled again, by whether inferences are long."""

WARM = 2
"""Number of warm-up inferences after a compilation."""

CONVERTS = frozenset(("Reorder", "Convert"))


class OpenVinoProfileSession:
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
        """Return the nanoseconds of each node since the compilation."""
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
        """Return the nodes with their times."""
        origins = {
            op.get_friendly_name(): _origins(op)
            for op in self._compiled.get_runtime_model().get_ordered_ops()
        }
        times = np.array(self._times)
        entries = self._request.get_profiling_info()
        runs = [i for i, entry in enumerate(entries) if _is_executed(entry) or times[:, i].any()]
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


class OpenVinoProfiler:
    """The performance counters of a network compiled by OpenVINO.

    A counter is the mean over all inferences since compilation, in whole microseconds. So a sample is the
    difference of two readings, and the network is compiled again before rounding errors add up.
    """

    source = "the performance counters of OpenVINO's compiled network"

    def open(self, path: Path, config: RunConfig) -> OpenVinoProfileSession:
        """Compile a file with counters."""
        return OpenVinoProfileSession(path, config)

    def load_probe(self, path: Path, config: RunConfig) -> Timed:
        """Compile a file as it is benchmarked."""
        return OpenVinoRunner(path, config)


def _is_executed(entry: Any) -> bool:
    """Return whether a node is computed; its status says otherwise if it takes less than a microsecond."""
    return not entry.exec_type.startswith(("undef", "unknown")) and entry.node_type not in CONVERTS


def _origins(op: Any) -> tuple[str, ...]:
    """Return the names of the nodes in the file that a node of the compiled network was made from."""
    info = op.get_rt_info()
    entry = info["originalLayersNames"] if "originalLayersNames" in set(info.keys()) else ""
    names = str(getattr(entry, "value", entry))
    return tuple(name for name in names.split(",") if name)


def _run_alone(path: str, config: dict[str, Any], before: Callable[[], None]) -> None:
    """Run a file once; see `RunAlone`."""
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


@BACKENDS.register("openvino")
class OpenVino(Backend):
    """``--backend openvino``."""

    name = "openvino"
    summary = "OpenVINO on the CPU"
    profiler = OpenVinoProfiler()
    run_alone = RunAlone(_run_alone)
    packages: ClassVar[Mapping[str, str]] = {"openvino": "openvino"}
    reads: ClassVar[tuple[str, ...]] = (".onnx", ".xml")
    options: ClassVar[frozenset[str]] = frozenset()

    def load(self, path: Path, config: RunConfig) -> OpenVinoRunner:
        """Compile a file for the CPU."""
        return OpenVinoRunner(path, config)

    def describe_timing(self, config: RunConfig) -> str:
        """Return what a time includes: one inference."""
        return (
            "one synchronous infer of one OpenVINO request on the CPU, NumPy array in and a new NumPy array "
            "out; reading, decoding and normalizing images is not included"
        )


def properties(config: RunConfig) -> dict[str, Any]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": config.threads,
        "INFERENCE_PRECISION_HINT": PRECISION,
    }


def _interface(path: Path, model: Any, batch: int) -> tuple[tuple[int, int, int], int | None]:
    """Return the image's shape and the number of classes, for an image classifier.

    Raises:
        CompressError: the network is not an image classifier.
    """
    if len(model.inputs) != 1 or len(model.input(0).partial_shape) != 4:
        shapes = [str(tensor.partial_shape) for tensor in model.inputs]
        raise CompressError(
            f"{str(path)!r} is not an image classifier: its inputs are {', '.join(shapes) or 'none'}",
            hint="it must have one input [batch, channels, height, width] and an output [batch, classes]",
            code="not-a-classifier",
        )
    first, *rest = (_size(dimension) for dimension in model.input(0).partial_shape)
    last = _size(model.output(0).partial_shape[-1])
    check_batch(path, first if isinstance(first, int) else None, batch)
    return fixed_size(path, rest), last if isinstance(last, int) else None


def _size(dimension: Any) -> int | str:
    return int(dimension.get_length()) if dimension.is_static else "?"


def _property_text(value: Any) -> str:
    """Return a property as text: the name of an enumeration, a type such as f32, or a number."""
    named = value.get_type_name() if hasattr(value, "get_type_name") else getattr(value, "name", value)
    return str(named)


def _unreadable(path: Path, error: Exception) -> CompressError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = next((line for line in reversed(lines) if not line.startswith("at ")), type(error).__name__)
    return CompressError(
        f"{str(path)!r} is not a model that OpenVINO can load: {message}",
        hint="the file is damaged, its .bin file is missing, or OpenVINO does not support an operator; "
        "export it again",
        code="bad-model",
        exit=Exit.MISSING,
    )
