"""The back ends that tell how long each of their nodes takes, by name."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from compress.bench.backends import RunConfig, Timed
from compress.core.errors import CompressError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class RuntimeNode:
    """A node as a runtime executes it, which may be several of the file's.

    Attributes:
        name: the runtime's. op: its operator, in the runtime's word.
        kernel: what computes it, in the runtime's words; another one computes at another speed.
        origins: names of the file's nodes or tensors it came from, the most telling first.
        weight: shape of its weight, where the runtime says it.
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
    """What a session measured.

    Attributes:
        nodes: in the order in which they run.
        times_ns: of each node in one inference, as often as it was told apart, `[samples, nodes]`.
        walls_ns: of one whole inference, by the host's clock, `[samples]`.
    """

    nodes: tuple[RuntimeNode, ...]
    times_ns: NDArray[np.float64]
    walls_ns: NDArray[np.float64]


class Session(Protocol):
    """A network loaded with its profiler on."""

    def run(self, count: int) -> None:
        """Run `count` inferences."""

    def finish(self) -> Profiled:
        """Return what was measured, and free everything; it cannot run after that."""


class Profiler(Protocol):
    """A back end's profiler.

    Attributes:
        backend: name of the back end.
        source: what the times of the nodes are, in a sentence for the reader of a result.
    """

    backend: str
    source: str

    def open(self, path: Path, config: RunConfig) -> Session:
        """Load what the back end loads, or a small ONNX file, with the profiler on."""

    def timed(self, path: Path, config: RunConfig) -> Timed:
        """Load a small ONNX file without the profiler."""


_PROFILERS: dict[str, Profiler] = {}
P = TypeVar("P", bound=type)


def register(cls: P) -> P:
    """Class decorator: make an instance known under its back end's name."""
    instance: Profiler = cls()
    _PROFILERS[instance.backend] = instance
    return cls


def profilers() -> dict[str, Profiler]:
    """Return every profiler by the name of its back end; imports the files of this folder on first use."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"compress.bench.explain.profilers.{module.name}")
    return dict(sorted(_PROFILERS.items()))


def profiler_for(backend: str) -> Profiler:
    """Return the profiler of a back end.

    Raises:
        CompressError: it has none.
    """
    known = profilers()
    if backend not in known:
        raise CompressError(
            f"the back end {backend!r} does not tell the time of each layer",
            hint=f"--explain works with: {', '.join(known)}",
            code="no-profiler",
            details={"backend": backend, "known": list(known)},
        )
    return known[backend]
