"""The back ends a network can be measured and evaluated on, by name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from compress.core.errors import CompressError, Exit, did_you_mean
from compress.export.formats import require_packages

FOLDER = "folder"
"""Stands among the suffixes a back end reads for a run folder, whose modules it runs."""

RTX_ENGINE = ".rtx.engine"

CHOICES = ("device", "channels_last", "cuda_graph", "transfers")
"""Fields of `RunConfig` that only some back ends have; each back end names its own in `honours`."""

Network = Literal["compact", "dense"]


@dataclass(frozen=True)
class RunConfig:
    """How a network is loaded and fed.

    Attributes:
        batch: images of an inference.
        threads: threads an operator may use.
        seed: of the input, normal noise; the same seed gives the same input.
        network: which network of a run folder is loaded; a file holds only one.
        device: ``cpu`` or ``cuda``, for the back ends that run modules.
        channels_last: lay a module's weights and input out as NHWC.
        cuda_graph: record the inference once as a CUDA graph and replay it.
        transfers: count the copies of the input to the device and of the output back in the host's time.
        trust: load an engine that no manifest vouches for.
        sha256: hash of an engine that this program has just made itself; it then needs no manifest.
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
    """Something that can be done again and again, and says how long each time took."""

    @property
    def device_ns(self) -> NDArray[np.int64] | None:
        """Times of the last `run` by the device's clock, `[count]`; None without a device of its own."""

    def run(self, count: int) -> NDArray[np.int64]:
        """Run `count` inferences one after the other; return the nanoseconds of each, `[count]`."""


class Runner(Timed, Protocol):
    """A loaded network with its input in place."""

    @property
    def load_ns(self) -> int:
        """Nanoseconds that loading took."""

    @property
    def image_shape(self) -> tuple[int | str, ...]:
        """`(channels, height, width)` of one image; a name where the network leaves a size free."""

    @property
    def num_classes(self) -> int | None:
        """Number of outputs, or None where the network leaves it free."""

    @property
    def settings(self) -> dict[str, str]:
        """What it runs with, for the record of a result: versions, providers, threads, options."""

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 `[N, classes]` for float32 `[N, C, H, W]`, N being any number of images."""

    def close(self) -> None:
        """Free what it holds; it cannot run after that."""


class Backend(Protocol):
    """A runtime on a device.

    Attributes:
        name: what the user gives to ``--backend``.
        requires: the packages it imports, each with the name that pip knows.
        reads: suffixes of the files it loads, such as ``.onnx``, or `FOLDER` for the modules of a run.
        honours: those of `CHOICES` it has.
    """

    name: str
    requires: Mapping[str, str]
    reads: tuple[str, ...]
    honours: frozenset[str]

    def check(self, config: RunConfig) -> None:
        """Raise `CompressError` (exit MISSING) where this machine cannot run it; loads nothing."""

    def load(self, path: Path, config: RunConfig) -> Runner:
        """Load a file or a run's network; raise `CompressError` where it cannot run as configured."""

    def timed(self, config: RunConfig) -> str:
        """Say what one time contains and what it does not, in a sentence for the reader of a result."""


_BACKENDS: dict[str, Backend] = {}
B = TypeVar("B", bound=type)


def register(cls: B) -> B:
    """Class decorator: make an instance known under its `name`."""
    instance: Backend = cls()
    _BACKENDS[instance.name] = instance
    return cls


def backends() -> dict[str, Backend]:
    """Return every registered back end by name; imports the files of this folder on first use."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"compress.bench.backends.{module.name}")
    return dict(sorted(_BACKENDS.items()))


def backend_named(name: str) -> Backend:
    """Return the back end called `name`, its packages being importable.

    Raises:
        CompressError: the name is unknown (exit USAGE) or a package is missing (exit MISSING).
    """
    known = backends()
    if name not in known:
        raise CompressError(
            f"there is no back end {name!r}",
            hint=f"{did_you_mean(name, known)} the back ends are: {', '.join(known)}".strip(),
            code="unknown-backend",
            details={"backend": name, "known": list(known)},
        )
    require_packages(known[name].requires, f"the back end {name!r}")
    return known[name]


def fitted(backend: Backend, config: RunConfig) -> RunConfig:
    """Return the configuration with the choices that the back end does not have at their defaults."""
    plain = RunConfig(config.batch, config.threads)
    return replace(config, **{c: getattr(plain, c) for c in CHOICES if c not in backend.honours})


def usable(name: str, config: RunConfig) -> Backend:
    """Return the back end called `name` if it can run here as configured, else raise (`Backend.check`)."""
    found = backend_named(name)
    found.check(fitted(found, config))
    return found


def kind_of(path: Path) -> str:
    """Return what stands for a path in `Backend.reads`: `FOLDER`, or the suffix of a file.

    Engines of TensorRT and TensorRT-RTX are told apart by ``.rtx.engine``.
    """
    if path.is_dir():
        return FOLDER
    return RTX_ENGINE if path.name.endswith(RTX_ENGINE) else path.suffix


def check_reads(backend: Backend, path: Path) -> None:
    """Refuse a path of a kind that the back end does not load.

    Raises:
        CompressError: it does not exist (exit MISSING), or its suffix is another back end's (exit USAGE).
    """
    if not path.exists():
        raise CompressError(
            f"there is no file {str(path)!r}",
            hint="make one with `compress export RUN`",
            code="missing-file",
            exit=Exit.MISSING,
        )
    kind = kind_of(path)
    if kind in backend.reads:
        return
    others = [name for name, other in backends().items() if kind in other.reads]
    what = "a run folder" if kind == FOLDER else f"a {kind or 'nameless'} file"
    wanted = " and ".join("run folders" if suffix == FOLDER else suffix for suffix in backend.reads)
    raise CompressError(
        f"the back end {backend.name!r} does not run {what} ({str(path)!r}); it reads {wanted}",
        hint=f"the back ends for it are: {', '.join(others)}" if others else "give an exported file or a run",
        code="wrong-kind",
        details={"backend": backend.name, "reads": list(backend.reads), "path": str(path)},
    )
