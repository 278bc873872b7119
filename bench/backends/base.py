"""Interfaces of a back end: how a network is loaded, timed, profiled and run alone for its memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

FOLDER = "folder"
"""Entry of `Backend.reads` for run folders, whose modules the back end runs."""

RTX_ENGINE = ".rtx.engine"
"""Suffix of the engines of TensorRT-RTX."""

OPTIONS = ("device", "channels_last", "cuda_graph", "transfers")
"""Fields of `RunConfig` that only some back ends support; each lists its own in `Backend.options`."""

Network = Literal["compact", "dense"]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class RunAlone:
    """A function that loads a network and runs it once, for the memory measurement.

    Its source text is executed in a process that imports nothing of this program, so it must import what it
    needs.

    Attributes:
        function: gets a path, the fields of a `RunConfig`, and a callback for when the runtime is imported.
    """

    function: Callable[[str, dict[str, Any], Callable[[], None]], None]


@dataclass(frozen=True)
class RunConfig:
    """How a network is loaded and what input it gets.

    Attributes:
        batch: images per inference.
        threads: threads that one operator may use.
        seed: seed of the input, which is normal noise.
        network: which network of a run folder is loaded; a file contains only one.
        device: ``cpu`` or ``cuda``, for back ends that run modules.
        channels_last: use the NHWC memory format for a module's weights and input.
        cuda_graph: capture the inference as a CUDA graph and replay it.
        transfers: include the copies of the input to the device and of the output back in the host's time.
        trust: load an engine without a manifest.
        sha256: hash of an engine that this program has just built itself; it then needs no manifest.
    """

    batch: int
    threads: int
    seed: int = 0
    network: Network = "compact"
    device: Literal["cpu", "cuda"] = "cpu"
    channels_last: bool = False
    cuda_graph: bool = False
    transfers: bool = False
    trust: bool = False
    sha256: str | None = None


class Timed(Protocol):
    """Something that can be run repeatedly and reports the time of each run."""

    @property
    def device_ns(self) -> NDArray[np.int64] | None:
        """Times of the last `run` by the device's clock, `[count]`; None if the device has no clock."""

    def run(self, count: int) -> NDArray[np.int64]:
        """Run `count` inferences one after the other; return the nanoseconds of each, `[count]`."""


class Runner(Timed, Protocol):
    """A loaded network with its input in memory."""

    @property
    def load_ns(self) -> int:
        """Nanoseconds that loading took."""

    @property
    def image_shape(self) -> tuple[int | str, ...]:
        """`(channels, height, width)` of one image; a name in place of a dynamic size."""

    @property
    def num_classes(self) -> int | None:
        """Number of outputs; None if it is dynamic."""

    @property
    def settings(self) -> dict[str, str]:
        """Settings for the record of a result: versions, providers, threads, options."""

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 `[N, classes]` for float32 `[N, C, H, W]`, for any N."""

    def close(self) -> None:
        """Free all resources; the runner cannot be used afterwards."""


@dataclass(frozen=True)
class RuntimeNode:
    """A node as a runtime executes it, which may be several nodes of the file.

    Attributes:
        name: the runtime's name for it.
        op: its operator, as the runtime calls it.
        kernel: the kernel that computes it, as the runtime calls it; kernels differ in speed.
        origins: names of the file's nodes or tensors it came from, the most specific first.
        weight: shape of its weight, if the runtime reports it.
        converts: whether it only changes a layout or a type for other nodes.
    """

    name: str
    op: str
    kernel: str
    origins: tuple[str, ...] = ()
    weight: Shape | None = None
    converts: bool = False


@dataclass(frozen=True)
class Profiled:
    """Times of the nodes of one network.

    Attributes:
        nodes: in the order of execution.
        times_ns: nanoseconds of each node in one inference, `[samples, nodes]`.
        walls_ns: nanoseconds of one whole inference by the host's clock, `[samples]`.
    """

    nodes: tuple[RuntimeNode, ...]
    times_ns: NDArray[np.float64]
    walls_ns: NDArray[np.float64]


class ProfileSession(Protocol):
    """A network loaded with the runtime's profiler enabled."""

    def run(self, count: int) -> None:
        """Run `count` inferences."""

    def finish(self) -> Profiled:
        """Return the measured times and free all resources; the session cannot be used afterwards."""


class Profiler(Protocol):
    """The per-node profiler of a back end.

    Attributes:
        source: description of where the times of the nodes are from.
    """

    source: str

    def open(self, path: Path, config: RunConfig) -> ProfileSession:
        """Load what the back end loads, or a small ONNX file, with the profiler enabled."""

    def load_probe(self, path: Path, config: RunConfig) -> Timed:
        """Load a small ONNX file without the profiler."""


class Backend(ABC):
    """A runtime on a device. Instances have no state, and importing the class must not import the runtime.

    Attributes:
        name: the value of ``--backend``; the same as the registered name.
        summary: the runtime and the device, in a few words for help and documentation.
        packages: the packages it imports, each with its name for pip.
        reads: suffixes of the files it loads, such as ``.onnx``, or `FOLDER` for the modules of a run.
        options: those of `OPTIONS` (and ``trust``) that it supports.
        profiler: times single nodes, for ``compress bench explain``; None if the runtime cannot.
        run_alone: for the memory measurement; None: a process with this program and torch uses `load`.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    packages: ClassVar[Mapping[str, str]]
    reads: ClassVar[tuple[str, ...]]
    options: ClassVar[frozenset[str]] = frozenset()
    profiler: ClassVar[Profiler | None] = None
    run_alone: ClassVar[RunAlone | None] = None

    def check(self, config: RunConfig) -> None:  # noqa: B027 - by default only the packages are needed
        """Raise `CompressError` (exit MISSING) if this machine cannot run it; loads nothing."""

    @abstractmethod
    def load(self, path: Path, config: RunConfig) -> Runner:
        """Load a file or a run's network.

        Raises:
            CompressError: it cannot run as configured.
        """

    @abstractmethod
    def describe_timing(self, config: RunConfig) -> str:
        """Return a sentence about what a time includes and excludes."""


def supported_config(backend: Backend, config: RunConfig) -> RunConfig:
    """Return the configuration with the options that the back end does not support at their defaults."""
    default = RunConfig(config.batch, config.threads)
    return replace(
        config, **{name: getattr(default, name) for name in OPTIONS if name not in backend.options}
    )


def file_kind(path: Path) -> str:
    """Return the entry of `Backend.reads` that matches a path: `FOLDER`, or the suffix of a file.

    Engines of TensorRT-RTX end in ``.rtx.engine``, those of TensorRT in ``.engine``.
    """
    if path.is_dir():
        return FOLDER
    return RTX_ENGINE if path.name.endswith(RTX_ENGINE) else path.suffix
