"""OpenVINO on the CPU: ONNX files and its own (.xml with the .bin beside it)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from compress.bench.backends.feeding import check_batch, fixed_size, host_times, in_batches, noise
from compress.bench.backends.registry import RunConfig, register
from compress.core.errors import CompressError, Exit

PRECISION = "f32"
"""Precision of the operators that are not quantized.

Left to itself the plugin computes a float32 file in bfloat16 where the processor can, which is another
network than the one the other back ends run."""


class OpenVinoRunner:
    """A network compiled for the CPU at one batch size, with one infer request.

    Raises:
        CompressError: OpenVINO cannot read or compile the file (exit MISSING), or the file is no image
            classifier of this batch size.
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
        """Number of outputs, or None where the file leaves it free."""
        return self._classes

    @property
    def device_ns(self) -> None:
        """None: the host's clock is the only one."""
        return

    @property
    def settings(self) -> dict[str, str]:
        """What the compiled network says it runs with."""
        import openvino

        asked = (
            "INFERENCE_NUM_THREADS",
            "NUM_STREAMS",
            "PERFORMANCE_HINT",
            "INFERENCE_PRECISION_HINT",
            "ENABLE_CPU_PINNING",
            "ENABLE_HYPER_THREADING",
        )
        found = {name.lower(): _plain(self._compiled.get_property(name)) for name in asked}
        return {"openvino": openvino.__version__, "device": "CPU", **found, "shapes": "fixed to the batch"}

    def run(self, count: int) -> NDArray[np.int64]:
        """Run `count` inferences; return the nanoseconds of each."""
        infer, feed = self._request.infer, self._feed
        return host_times(lambda: infer(feed, share_inputs=True), count)

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 `[N, classes]` for float32 `[N, C, H, W]`."""

        def run(full: NDArray[np.float32]) -> NDArray[np.float32]:
            found: NDArray[np.float32] = self._request.infer({0: full}, share_inputs=True)[0]
            return found

        return in_batches(run, images, self._batch)

    def close(self) -> None:
        """Drop the request and the compiled network."""
        del self._request, self._compiled


@register
class OpenVino:
    """``--backend openvino``."""

    name = "openvino"
    requires: ClassVar[Mapping[str, str]] = {"openvino": "openvino"}
    reads = (".onnx", ".xml")
    honours: frozenset[str] = frozenset()

    def check(self, config: RunConfig) -> None:
        """Nothing but its package is needed."""

    def load(self, path: Path, config: RunConfig) -> OpenVinoRunner:
        """Compile a file for the CPU, or fail."""
        return OpenVinoRunner(path, config)

    def timed(self, config: RunConfig) -> str:
        """One inference, as for ONNX Runtime."""
        return (
            "one synchronous infer of one OpenVINO request on the CPU, NumPy array in and a new NumPy array "
            "out; reading, decoding and normalising images is not included"
        )


def properties(config: RunConfig) -> dict[str, Any]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": config.threads,
        "INFERENCE_PRECISION_HINT": PRECISION,
    }


def _interface(path: Path, model: Any, batch: int) -> tuple[tuple[int, int, int], int | None]:
    """Return the image's shape and the number of classes, or refuse what is no image classifier."""
    if len(model.inputs) != 1 or len(model.input(0).partial_shape) != 4:
        shapes = [str(tensor.partial_shape) for tensor in model.inputs]
        raise CompressError(
            f"{str(path)!r} is no image classifier: its inputs are {', '.join(shapes) or 'none'}",
            hint="one input [batch, channels, height, width] and an output [batch, classes] are needed",
            code="not-a-classifier",
        )
    first, *rest = (_size(dimension) for dimension in model.input(0).partial_shape)
    last = _size(model.output(0).partial_shape[-1])
    check_batch(path, first if isinstance(first, int) else None, batch)
    return fixed_size(path, rest), last if isinstance(last, int) else None


def _size(dimension: Any) -> int | str:
    return int(dimension.get_length()) if dimension.is_static else "?"


def _plain(value: Any) -> str:
    """A property in OpenVINO's own words: a name of an enumeration, a type such as f32, a number."""
    named = value.get_type_name() if hasattr(value, "get_type_name") else getattr(value, "name", value)
    return str(named)


def _unreadable(path: Path, error: Exception) -> CompressError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if not line.startswith("at ")), type(error).__name__)
    return CompressError(
        f"{str(path)!r} is not a model that OpenVINO can load: {said}",
        hint="the file is damaged, its .bin is missing beside it, or it has an operator that OpenVINO does "
        "not know; export it again",
        code="bad-model",
        exit=Exit.MISSING,
    )
