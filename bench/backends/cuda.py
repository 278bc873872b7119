"""Helpers of the runners on an NVIDIA GPU: buffers owned by torch, a stream, and two clocks.

Device time is measured between two CUDA events around the inference. Host time is measured by the host's
clock, from before the launch until the stream has finished; with `RunConfig.transfers` it includes the copies
to and from pinned memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compress.bench.backends.base import RunConfig
from compress.bench.backends.inputs import in_batches, noise
from compress.core.errors import CompressError, Exit

TIMED = (
    "input and output stay on the GPU; host time from the launch until the stream has finished, device time "
    "between CUDA events around the inference"
)
TIMED_WITH_TRANSFERS = (
    "host time includes the copies of the input from pinned memory and of the output back to it; device "
    "time, between CUDA events around the inference, does not"
)


def require_gpu(name: str) -> None:
    """Raise `CompressError` (exit MISSING) unless torch sees an NVIDIA GPU."""
    if torch.cuda.is_available():
        return
    built = torch.version.cuda
    why = "torch sees none" if built else "this torch was built without CUDA"
    raise CompressError(
        f"the back end {name!r} needs an NVIDIA GPU; {why}",
        hint="install the NVIDIA driver (`nvidia-smi` must list the GPU)"
        + ("" if built else " and a CUDA build of torch")
        + ", or choose a back end for the CPU: ort-cpu, openvino, torch",
        code="no-gpu",
        exit=Exit.MISSING,
        details={"backend": name, "torch_cuda": built},
    )


def timed(what: str, config: RunConfig) -> str:
    """Return a sentence about what the host and the device time of `what` include."""
    return f"{what}; {TIMED_WITH_TRANSFERS if config.transfers else TIMED}"


class Buffers:
    """Input and output of a network on the GPU and in pinned memory, with their own stream.

    Attributes:
        x, y: float32 `[batch, C, H, W]` and the output on the device.
        stream: stream that everything runs on.
    """

    def __init__(
        self,
        config: RunConfig,
        image: tuple[int, int, int],
        output: tuple[int, ...],
        *,
        stream: torch.cuda.Stream | None = None,
        layout: torch.memory_format = torch.contiguous_format,
    ) -> None:
        self._config = config
        self._host_x = torch.from_numpy(noise(config, image)).contiguous(memory_format=layout).pin_memory()
        self._host_y = torch.empty(output, dtype=torch.float32).pin_memory()
        self.stream = stream or new_stream()
        with torch.cuda.stream(self.stream):
            self.x = self._host_x.cuda()
            self.y = torch.empty(output, dtype=torch.float32, device="cuda")
        self.stream.synchronize()
        self._first, self._last = event(), event()

    @property
    def settings(self) -> dict[str, str]:
        """Name and options of the GPU."""
        return {
            "gpu": torch.cuda.get_device_name(),
            "cuda": str(torch.version.cuda),
            "cuda_graph": _on_off(self._config.cuda_graph),
            "transfers": _on_off(self._config.transfers),
        }

    def times(self, launch: Callable[[], Any], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Run `launch` on the stream `count` times; return host and device nanoseconds of each, `[count]`."""
        host, device = np.empty(count, np.int64), np.empty(count, np.int64)
        clock, stream, copies = time.perf_counter_ns, self.stream, self._config.transfers
        with torch.cuda.stream(stream):
            for i in range(count):
                start = clock()
                if copies:
                    self.x.copy_(self._host_x, non_blocking=True)
                self._first.record(stream)
                launch()
                self._last.record(stream)
                if copies:
                    self._host_y.copy_(self.y, non_blocking=True)
                stream.synchronize()
                host[i] = clock() - start
                device[i] = round(self._first.elapsed_time(self._last) * 1e6)
        return host, device

    def logits(self, launch: Callable[[], Any], images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits of images `[N, C, H, W]`; the input of the measurement is restored afterwards."""

        def run(full: NDArray[np.float32]) -> NDArray[np.float32]:
            with torch.cuda.stream(self.stream):
                self.x.copy_(torch.from_numpy(full))
                launch()
            self.stream.synchronize()
            outputs: NDArray[np.float32] = self.y.cpu().numpy().copy()
            return outputs

        try:
            return in_batches(run, images, self._config.batch)
        finally:
            with torch.cuda.stream(self.stream):
                self.x.copy_(self._host_x)
            self.stream.synchronize()

    def captured(self, launch: Callable[[], Any]) -> Callable[[], Any]:
        """Return a call that replays `launch` as a CUDA graph; `launch` must have run before."""
        graph = torch.cuda.CUDAGraph()
        self.stream.synchronize()
        with torch.cuda.graph(graph, stream=self.stream):
            launch()
        self.stream.synchronize()
        return graph.replay


def output_of(value: Any) -> Tensor:
    """Return the output of a module, which must be a single tensor.

    Raises:
        CompressError: ``not-a-classifier`` (exit USAGE).
    """
    if isinstance(value, Tensor):
        return value
    raise CompressError(
        f"the network returns {type(value).__name__}, not one tensor of logits",
        hint="only image classifiers can be measured",
        code="not-a-classifier",
    )


def new_stream() -> torch.cuda.Stream:
    """Return a new stream."""
    stream: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call, unused-ignore]
    return stream


def event() -> torch.cuda.Event:
    """Return a CUDA event with timing enabled."""
    timed_event: torch.cuda.Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call, unused-ignore]
    return timed_event


def _on_off(value: bool) -> str:
    return "on" if value else "off"
