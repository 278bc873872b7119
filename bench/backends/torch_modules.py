"""PyTorch: the modules of a run folder, eager or compiled, on the CPU or an NVIDIA GPU."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from compress import artifact
from compress.bench.backends import cuda
from compress.bench.backends.base import FOLDER, Backend, Profiled, Profiler, RunConfig, RuntimeNode, Timed
from compress.bench.backends.inputs import host_times, in_batches, noise
from compress.bench.backends.onnx_module import OnnxModule
from compress.bench.backends.registry import BACKENDS
from compress.bench.dense_network import build_calibrated_dense
from compress.core.errors import CompressError, Exit


@dataclass(frozen=True)
class Loaded:
    """A module in evaluation mode: `[N, *image]` in, `[N, outputs]` out."""

    module: nn.Module
    image: tuple[int, int, int]
    outputs: int


class ModuleRunner:
    """A module in evaluation mode with its input on the device; each time is one forward without gradients.

    Args:
        load: returns the module; its time counts as loading.
        config: settings of the measurement.
        compiled: whether to compile the module with `torch.compile`; its time counts as loading.

    Raises:
        CompressError: the network cannot be loaded, or not compiled (exit MISSING or BUILD).
    """

    def __init__(self, load: Callable[[], Loaded], config: RunConfig, *, compiled: bool) -> None:
        torch.set_num_threads(config.threads)
        start = time.perf_counter_ns()
        self._loaded = load()
        model = self._loaded.module
        self._config, self._compiled = config, compiled
        self._layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self._model: Callable[[Tensor], Any] = model.to(device=config.device, memory_format=self._layout)  # type: ignore[call-overload]
        self._buffers: cuda.Buffers | None = None
        self._device: NDArray[np.int64] | None = None
        self._input = self._placed(noise(config, self._loaded.image))
        if compiled:
            self._compile(model)
        with torch.inference_mode():
            cuda.output_of(self._model(self._input))
        if config.device == "cuda":
            self._onto_gpu()
        self._load_ns = time.perf_counter_ns() - start

    def _placed(self, images: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(images).to(self._config.device).to(memory_format=self._layout)

    def _compile(self, model: nn.Module) -> None:
        """Compile for exactly this input; the first call triggers the compilation."""
        mode = "reduce-overhead" if self._config.cuda_graph else None
        self._model = torch.compile(model, dynamic=False, fullgraph=False, mode=mode)
        logging.getLogger("torch.utils.cpp_extension").setLevel(
            logging.ERROR
        )  # hides a warning without a GPU
        try:
            with torch.inference_mode():
                self._model(self._input)
        except Exception as error:  # compiler passes raise errors of any class
            raise _compile_error(error) from error

    def _onto_gpu(self) -> None:
        shape = (self._config.batch, self._loaded.outputs)
        buffers = cuda.Buffers(self._config, self._loaded.image, shape, layout=self._layout)

        def forward() -> None:
            with torch.inference_mode():
                buffers.y.copy_(cuda.output_of(self._model(buffers.x)))

        with torch.cuda.stream(buffers.stream):
            for _ in range(3):  # before a capture every kernel must have been chosen
                forward()
        plain_graph = self._config.cuda_graph and not self._compiled
        self._launch = buffers.captured(forward) if plain_graph else forward
        self._buffers = buffers

    @property
    def load_ns(self) -> int:
        """Nanoseconds from the folder to the end of the first forward, compilation included."""
        return self._load_ns

    @property
    def image_shape(self) -> tuple[int | str, ...]:
        """`(channels, height, width)` of one image."""
        return self._loaded.image

    @property
    def num_classes(self) -> int | None:
        """Number of outputs."""
        return self._loaded.outputs

    @property
    def device_ns(self) -> NDArray[np.int64] | None:
        """Times of the last `run` between CUDA events; None on the CPU."""
        return self._device

    @property
    def settings(self) -> dict[str, str]:
        """Version, device, threads, layout, and other settings that affect the time."""
        settings = {
            "torch": str(torch.__version__),
            "device": self._config.device,
            "threads": str(torch.get_num_threads()),
            "memory_format": "channels_last" if self._config.channels_last else "contiguous",
            "compile": "inductor" if self._compiled else "no",
        }
        if self._buffers is None:
            return settings
        tf32 = "on" if torch.backends.cudnn.allow_tf32 else "off"
        return settings | self._buffers.settings | {"cudnn_tf32": tf32}

    def run(self, count: int) -> NDArray[np.int64]:
        """Run `count` inferences; return the host's nanoseconds of each."""
        with torch.inference_mode():
            if self._buffers is None:
                model, images = self._model, self._input
                return host_times(lambda: model(images), count)
            host, self._device = self._buffers.times(self._launch, count)
            return host

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 `[N, classes]` for float32 `[N, C, H, W]`."""
        if self._buffers is not None:
            return self._buffers.logits(self._launch, images)

        def run(full: NDArray[np.float32]) -> NDArray[np.float32]:
            with torch.inference_mode():
                outputs: NDArray[np.float32] = self._model(self._placed(full)).float().numpy()
            return outputs

        return in_batches(run, images, self._config.batch)

    def close(self) -> None:
        """Free the module, its input and the compiled code, of which torch keeps a limited number."""
        if self._compiled:
            torch.compiler.reset()
        del self._model, self._input, self._loaded
        self._buffers = None


def load_from_run(path: Path, config: RunConfig) -> Loaded:
    """Load a network of a run folder, or of its ``compact/`` folder; `config.network` says which."""
    spec = artifact.compact_info(path).model
    model = artifact.load(path) if config.network == "compact" else build_calibrated_dense(path)
    return Loaded(model, spec.input_size, spec.num_classes)


SCATTER_INDEX = "scatter_index"
"""Part of the name of the index buffer of `compress.slicing.scatter`."""

MULTIPLY = ("convolution", "_convolution", "conv2d", "mm", "addmm", "linear", "bmm", "mkldnn_linear")


class _Clock(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]
    """Record the time of every operator: by the host's clock on a CPU, between CUDA events on a GPU."""

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
            result = func(*args, **(kwargs or {}))
            ends[1].record()
            self.spans.append(ends)
        else:
            start = time.perf_counter_ns()
            result = func(*args, **(kwargs or {}))
            self.spans.append((start, time.perf_counter_ns()))
        self.calls.append((func, args))
        return result

    def times_ns(self) -> NDArray[np.float64]:
        """Return the nanoseconds of every call, `[calls]`."""
        if self._on_gpu:
            torch.cuda.synchronize()
            return np.array([1e6 * first.elapsed_time(last) for first, last in self.spans])
        return np.array([float(last - first) for first, last in self.spans])


class TorchProfileSession:
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
        """Return the nodes with their times."""
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
        """None, since times are by the host's clock until the device has finished."""
        return

    def run(self, count: int) -> NDArray[np.int64]:
        """Run `count` inferences; return the nanoseconds of each."""

        def once() -> None:
            self._model(self._input)
            if self._on_gpu:
                torch.cuda.synchronize()

        with torch.inference_mode():
            return host_times(once, count)


class TorchProfiler:
    """Times every ATen operator as it is dispatched, and identifies it by the parameters it reads.

    A module's hooks would not see the operators of a traced network; the dispatcher sees those of both.
    """

    source = "the time of each ATen operator as PyTorch dispatches it"

    def open(self, path: Path, config: RunConfig) -> TorchProfileSession:
        """Load a network of a run folder, or a small ONNX file, with the clock in the dispatcher."""
        return TorchProfileSession(path, config)

    def load_probe(self, path: Path, config: RunConfig) -> Timed:
        """Load a small ONNX file."""
        return TimedModule(path, config)


def module_at(path: Path, config: RunConfig) -> tuple[nn.Module, tuple[int, ...]]:
    """Return the network at a path in evaluation mode, and the size of its images."""
    if path.suffix == ".onnx":
        module = OnnxModule(path)
        return module, module.size
    loaded = load_from_run(path, config)
    return loaded.module, loaded.image


def _names(model: nn.Module) -> dict[int, str]:
    """Return the names of parameters and buffers by the address of their memory, which views share."""
    tensors: Mapping[str, Tensor] = {**dict(model.named_buffers()), **dict(model.named_parameters())}
    return {tensor.untyped_storage().data_ptr(): name for name, tensor in tensors.items()}


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


@BACKENDS.register("torch")
class Torch(Backend):
    """``--backend torch``: eager PyTorch."""

    name = "torch"
    summary = "PyTorch modules, eager, on the CPU or an NVIDIA GPU"
    profiler: ClassVar[Profiler | None] = TorchProfiler()
    packages: ClassVar[Mapping[str, str]] = {"torch": "torch"}
    reads: ClassVar[tuple[str, ...]] = (FOLDER,)
    options: ClassVar[frozenset[str]] = frozenset({"device", "channels_last", "cuda_graph", "transfers"})

    def check(self, config: RunConfig) -> None:
        """Check that the requested GPU exists."""
        if config.device == "cuda":
            cuda.require_gpu(f"{self.name} on cuda")
        elif config.cuda_graph or config.transfers:
            raise CompressError(
                f"the back end {self.name!r} on the CPU has no CUDA graph and no transfers",
                hint="add --device cuda, or leave the option out",
                code="bad-option",
            )

    def load(self, path: Path, config: RunConfig) -> ModuleRunner:
        """Load a network of a run folder."""
        return self.load_module(partial(load_from_run, path, config), config)

    def load_module(self, load: Callable[[], Loaded], config: RunConfig) -> ModuleRunner:
        """Run a module that is not in a run folder."""
        self.check(config)
        return ModuleRunner(load, config, compiled=False)

    def describe_timing(self, config: RunConfig) -> str:
        """Return what a time includes: one forward."""
        what = "one forward of the module in PyTorch"
        if config.device == "cuda":
            return cuda.timed(what, config)
        return f"{what} on the CPU, tensor in and tensor out; reading and normalizing images is not included"


@BACKENDS.register("torch-compile")
class TorchCompile(Torch):
    """``--backend torch-compile``: the same through `torch.compile` (inductor)."""

    name = "torch-compile"
    summary = "PyTorch modules compiled by torch.compile, on the CPU or an NVIDIA GPU"
    profiler = None

    def check(self, config: RunConfig) -> None:
        """Check that there is a C++ compiler, which inductor needs on the CPU."""
        super().check(config)
        compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
        if sys.platform == "win32":
            compiler = os.environ.get("CXX") or "cl"
        if config.device == "cpu" and shutil.which(compiler) is None:
            raise _no_compiler(compiler)

    def load_module(self, load: Callable[[], Loaded], config: RunConfig) -> ModuleRunner:
        """Compile a module, and run it."""
        self.check(config)
        return ModuleRunner(load, config, compiled=True)

    def describe_timing(self, config: RunConfig) -> str:
        """Return what a time includes: one forward of the compiled module."""
        return super().describe_timing(config).replace("the module", "the module compiled by inductor")


def _no_compiler(name: str) -> CompressError:
    return CompressError(
        f"the back end 'torch-compile' needs a C++ compiler on the CPU, but there is no {name!r}",
        hint="install one (Debian and Ubuntu: apt install g++), set CXX to one, or use --backend torch",
        code="no-compiler",
        exit=Exit.MISSING,
        details={"compiler": name},
    )


def _compile_error(error: Exception) -> CompressError:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    message = next((line.strip() for line in str(cause).splitlines() if line.strip()), "no message")
    return CompressError(
        f"torch.compile cannot compile the network: {type(cause).__name__}: {message}",
        hint="on the CPU, install a C++ compiler with OpenMP; --debug shows the whole error; or use "
        "--backend torch, which does not compile",
        code="compile-failed",
        exit=Exit.BUILD,
    )
