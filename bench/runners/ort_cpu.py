"""ONNX Runtime on the CPU."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.runners.registry import RunConfig, register
from compress.errors import CompressError
from export.session import CPU, OnnxClassifier


class OrtCpuRunner:
    """A session with a fixed input; each time is one `session.run`.

    Raises:
        CompressError: see `export.session.OnnxClassifier`; or the file's fixed batch size is another.
    """

    def __init__(self, path: Path, config: RunConfig) -> None:
        start = time.perf_counter_ns()
        model = OnnxClassifier(path, threads=config.threads)
        self._load_ns = time.perf_counter_ns() - start
        if model.batch not in (None, config.batch):
            raise CompressError(
                f"{str(path)!r} has a fixed batch size of {model.batch}; "
                f"it cannot be measured with {config.batch}",
                hint=f"measure it with --batch {model.batch}, or export it with --batch dynamic",
                code="fixed-batch",
            )
        shape = [size for size in model.image_shape if isinstance(size, int)]
        if len(shape) != 3:
            raise CompressError(
                f"{str(path)!r} leaves its image size free: {list(model.image_shape)}",
                hint="export it with a fixed image size",
                code="free-size",
            )
        noise = np.random.default_rng(config.seed)
        self._feed = {model.inputs[0].name: noise.standard_normal((config.batch, *shape), dtype=np.float32)}
        self._names = [model.outputs[0].name]
        self._session = model.session

    @property
    def load_ns(self) -> int:
        """Nanoseconds from the file to a session, graph optimisation included."""
        return self._load_ns

    def run(self, count: int) -> NDArray[np.int64]:
        """Run `count` inferences; return the nanoseconds of each."""
        run, names, feed, clock = self._session.run, self._names, self._feed, time.perf_counter_ns
        times = np.empty(count, dtype=np.int64)
        for i in range(count):
            start = clock()
            run(names, feed)
            times[i] = clock() - start
        return times

    def close(self) -> None:
        """Drop the session and its threads."""
        del self._session


@register
class OrtCpu:
    """``--backend ort-cpu``."""

    name = "ort-cpu"
    requires: ClassVar[Mapping[str, str]] = {"onnxruntime": "onnxruntime"}
    timed = (
        "one session.run of ONNX Runtime on the CPU, NumPy array in and a new NumPy array out; "
        "reading, decoding and normalising images is not included"
    )

    def load(self, path: Path, config: RunConfig) -> OrtCpuRunner:
        """Open a session with the CPU provider, or fail."""
        return OrtCpuRunner(path, config)

    def options(self, config: RunConfig) -> dict[str, str]:
        """Return providers, threads and the defaults that were left as they are."""
        import onnxruntime

        defaults = onnxruntime.SessionOptions()
        return {
            "onnxruntime": onnxruntime.__version__,
            "providers": ", ".join(CPU),
            "intra_op_num_threads": str(config.threads),
            "inter_op_num_threads": "1",
            "execution_mode": str(defaults.execution_mode).rpartition(".")[2],
            "graph_optimization_level": str(defaults.graph_optimization_level).rpartition(".")[2],
            "allow_spinning": "default (on)",
        }
