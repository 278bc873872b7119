"""Eager PyTorch: every ATen operator timed as it is dispatched, and known by the parameters it reads.

A module's hooks would not see the operators of a traced network; the dispatcher sees those of both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from compress import artifact
from compress.bench.backends import RunConfig, Timed, cuda
from compress.bench.backends.feeding import host_times, noise
from compress.bench.explain.profilers.registry import Profiled, RuntimeNode, register
from compress.bench.explain.profilers.torch_onnx import OnnxModule

SCATTER_INDEX = "scatter_index"
"""In the name of the buffer by which `compress.slicing.scatter` puts channels back."""

MULTIPLY = ("convolution", "_convolution", "conv2d", "mm", "addmm", "linear", "bmm", "mkldnn_linear")


class _Clock(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]
    """Keeps the time of every operator: the host's on a CPU, between events on a GPU."""

    def __init__(self, on_gpu: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self._on_gpu = on_gpu
        self.calls = list[tuple[Any, tuple[Any, ...]]]()
        self.spans = list[tuple[Any, Any]]()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self._on_gpu:
            ends = cuda.event(), cuda.event()
            ends[0].record()
            found = func(*args, **(kwargs or {}))
            ends[1].record()
            self.spans.append(ends)
        else:
            start = time.perf_counter_ns()
            found = func(*args, **(kwargs or {}))
            self.spans.append((start, time.perf_counter_ns()))
        self.calls.append((func, args))
        return found

    def times_ns(self) -> NDArray[np.float64]:
        """Of every call, `[calls]`."""
        if self._on_gpu:
            torch.cuda.synchronize()
            return np.array([1e6 * first.elapsed_time(last) for first, last in self.spans])
        return np.array([float(last - first) for first, last in self.spans])


class TorchSession:
    """A module whose operators are timed."""

    def __init__(self, path: Path, config: RunConfig) -> None:
        torch.set_num_threads(config.threads)
        self._model, size = module_at(path, config)
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self._model.to(device=config.device, memory_format=layout)  # type: ignore[call-overload]
        self._input = torch.from_numpy(noise(config, size)).to(config.device).to(memory_format=layout)
        self._on_gpu = config.device == "cuda"
        self._times, self._walls = list[NDArray[np.float64]](), list[float]()
        self._nodes: tuple[RuntimeNode, ...] = ()
        with torch.inference_mode():
            self._model(self._input)

    def run(self, count: int) -> None:
        """Run inferences."""
        for _ in range(count):
            with torch.inference_mode(), _Clock(self._on_gpu) as clock:
                start = time.perf_counter_ns()
                self._model(self._input)
                if self._on_gpu:
                    torch.cuda.synchronize()
                self._walls.append(float(time.perf_counter_ns() - start))
            self._times.append(clock.times_ns())
            if not self._nodes:
                names = _names(self._model)
                self._nodes = tuple(_node(func, args, names) for func, args in clock.calls)

    def finish(self) -> Profiled:
        """Return what was measured."""
        del self._model, self._input
        return Profiled(self._nodes, np.array(self._times), np.array(self._walls))


class TimedModule:
    """A module timed as a whole."""

    def __init__(self, path: Path, config: RunConfig) -> None:
        torch.set_num_threads(config.threads)
        self._model, size = module_at(path, config)
        self._model.to(config.device)
        self._input = torch.from_numpy(noise(config, size)).to(config.device)
        self._on_gpu = config.device == "cuda"

    @property
    def device_ns(self) -> None:
        """None: by the host's clock, until the device has finished."""
        return

    def run(self, count: int) -> NDArray[np.int64]:
        """Run `count` inferences; return the nanoseconds of each."""

        def once() -> None:
            self._model(self._input)
            if self._on_gpu:
                torch.cuda.synchronize()

        with torch.inference_mode():
            return host_times(once, count)


@register
class TorchProfiler:
    """Of ``torch``."""

    backend = "torch"
    source = "the time of each ATen operator as PyTorch dispatches it"

    def open(self, path: Path, config: RunConfig) -> TorchSession:
        """Load a network of a run folder, or a small ONNX file, with the clock in the dispatcher."""
        return TorchSession(path, config)

    def timed(self, path: Path, config: RunConfig) -> Timed:
        """Load a small ONNX file."""
        return TimedModule(path, config)


def module_at(path: Path, config: RunConfig) -> tuple[nn.Module, tuple[int, ...]]:
    """Return the network at a path in evaluation mode, and the size of its images."""
    from compress.bench.files import settled_dense

    if path.suffix == ".onnx":
        module = OnnxModule(path)
        return module, module.size
    model = artifact.load(path) if config.network == "compact" else settled_dense(path)
    return model, artifact.compact_info(path).model.input_size


def _names(model: nn.Module) -> dict[int, str]:
    """Names of parameters and buffers by the address of their memory, which views share."""
    every: Mapping[str, Tensor] = {**dict(model.named_buffers()), **dict(model.named_parameters())}
    return {tensor.untyped_storage().data_ptr(): name for name, tensor in every.items()}


def _node(func: Callable[..., Any], args: tuple[Any, ...], names: Mapping[int, str]) -> RuntimeNode:
    op = str(func).removeprefix("aten.").partition(".")[0]
    tensors = [entry for entry in tree_flatten(args)[0] if isinstance(entry, Tensor)]
    read = [(names.get(t.untyped_storage().data_ptr()), tuple(t.shape)) for t in tensors]
    weights = [(name, shape) for name, shape in read if name is not None]
    layer = next((entry for entry in weights if op in MULTIPLY and len(entry[1]) > 1), None)
    origins = () if layer is None else (layer[0].removesuffix(".weight"),)
    scatters = op in ("index_select", "gather") and any(SCATTER_INDEX in name for name, _ in weights)
    return RuntimeNode(
        name=origins[0] if origins else op,
        op="scatter" if scatters else op,
        kernel=f"aten::{op}",
        origins=origins,
        weight=None if layer is None else layer[1],
        converts=op in ("_to_copy", "clone", "contiguous"),
    )
