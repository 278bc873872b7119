"""PyTorch itself: the modules of a run folder, as they are and compiled, on the CPU or an NVIDIA GPU."""

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

from compress import artifact
from compress.bench.backends import cuda
from compress.bench.backends.feeding import host_times, in_batches, noise
from compress.bench.backends.registry import FOLDER, RunConfig, register
from compress.core.errors import CompressError, Exit


@dataclass(frozen=True)
class Loaded:
    """A module in evaluation mode: `[N, *image]` in, `[N, outputs]` out."""

    module: nn.Module
    image: tuple[int, int, int]
    outputs: int


class ModuleRunner:
    """A module in evaluation mode, its input in place; each time is one forward without gradients.

    Args:
        load: gives the module; counts as loading.
        config: how it is run.
        compiled: whether `torch.compile` prepares it; that is done here, and counts as loading.

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
        """Compile for exactly this input; the first call is what compiles."""
        mode = "reduce-overhead" if self._config.cuda_graph else None
        self._model = torch.compile(model, dynamic=False, fullgraph=False, mode=mode)
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # warns where no GPU is
        try:
            with torch.inference_mode():
                self._model(self._input)
        except Exception as error:  # the compiler's passes raise whatever they raise
            raise _not_compiled(error) from error

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
        """Version, device, threads, layout, and what else decides the time."""
        found = {
            "torch": str(torch.__version__),
            "device": self._config.device,
            "threads": str(torch.get_num_threads()),
            "memory_format": "channels_last" if self._config.channels_last else "contiguous",
            "compile": "inductor" if self._compiled else "no",
        }
        if self._buffers is None:
            return found
        tf32 = "on" if torch.backends.cudnn.allow_tf32 else "off"
        return found | self._buffers.settings | {"cudnn_tf32": tf32}

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
                found: NDArray[np.float32] = self._model(self._placed(full)).float().numpy()
            return found

        return in_batches(run, images, self._config.batch)

    def close(self) -> None:
        """Drop the module and its input; what was compiled for it is forgotten, as its number is limited."""
        if self._compiled:
            torch.compiler.reset()
        del self._model, self._input, self._loaded
        self._buffers = None


def of_run(path: Path, config: RunConfig) -> Loaded:
    """Load a network of a run folder, or of its ``compact/`` folder; `config.network` says which."""
    from compress.bench.files import settled_dense

    spec = artifact.compact_info(path).model
    model = artifact.load(path) if config.network == "compact" else settled_dense(path)
    return Loaded(model, spec.input_size, spec.num_classes)


@register
class Torch:
    """``--backend torch``: eager PyTorch."""

    name = "torch"
    requires: ClassVar[Mapping[str, str]] = {"torch": "torch"}
    reads = (FOLDER,)
    honours = frozenset({"device", "channels_last", "cuda_graph", "transfers"})

    def check(self, config: RunConfig) -> None:
        """A GPU is needed where it is asked for."""
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
        return self.load_module(partial(of_run, path, config), config)

    def load_module(self, load: Callable[[], Loaded], config: RunConfig) -> ModuleRunner:
        """Run a module that no run folder holds."""
        self.check(config)
        return ModuleRunner(load, config, compiled=False)

    def timed(self, config: RunConfig) -> str:
        """One forward."""
        what = "one forward of the module in PyTorch"
        if config.device == "cuda":
            return cuda.timed(what, config)
        return f"{what} on the CPU, tensor in and tensor out; reading and normalising images is not included"


@register
class TorchCompile(Torch):
    """``--backend torch-compile``: the same through `torch.compile` (inductor)."""

    name = "torch-compile"

    def check(self, config: RunConfig) -> None:
        """On the CPU inductor writes C++: a compiler is needed."""
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

    def timed(self, config: RunConfig) -> str:
        """One forward, compiled before."""
        return super().timed(config).replace("the module", "the module compiled by inductor")


def _no_compiler(name: str) -> CompressError:
    return CompressError(
        f"the back end 'torch-compile' needs a C++ compiler on the CPU; there is no {name!r} here",
        hint="install one (Debian and Ubuntu: apt install g++), name one in CXX, or use --backend torch",
        code="no-compiler",
        exit=Exit.MISSING,
        details={"compiler": name},
    )


def _not_compiled(error: Exception) -> CompressError:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    said = next((line.strip() for line in str(cause).splitlines() if line.strip()), "no message")
    return CompressError(
        f"torch.compile cannot compile the network: {type(cause).__name__}: {said}",
        hint="a working C++ compiler with OpenMP is needed on the CPU; --debug shows the report, "
        "--backend torch runs it uncompiled",
        code="compile-failed",
        exit=Exit.BUILD,
    )
