"""The back ends a file can be measured on, by name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from compress.errors import CompressError, near
from export.registry import require


@dataclass(frozen=True)
class RunConfig:
    """How a file is loaded and fed.

    Attributes:
        batch: images of an inference.
        threads: threads an operator may use.
        seed: of the input, normal noise; the same seed gives the same input.
    """

    batch: int
    threads: int
    seed: int = 0


class Runner(Protocol):
    """A loaded network with its input in place."""

    @property
    def load_ns(self) -> int:
        """Nanoseconds that loading took."""

    def run(self, count: int) -> NDArray[np.int64]:
        """Run `count` inferences one after the other; return the nanoseconds of each, `[count]`."""

    def close(self) -> None:
        """Free what it holds; it cannot run after that."""


class Backend(Protocol):
    """A runtime on a device.

    Attributes:
        name: what the user gives to ``--backend``.
        requires: the packages it imports, each with the name that pip knows.
        timed: what one time contains, and what it does not, in one sentence for the reader of a result.
    """

    name: str
    requires: Mapping[str, str]
    timed: str

    def load(self, path: Path, config: RunConfig) -> Runner:
        """Load a file; raise `CompressError` where it cannot run exactly as configured."""

    def options(self, config: RunConfig) -> dict[str, str]:
        """Return the settings a session runs with, for the record of a result."""


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
        importlib.import_module(f"bench.runners.{module.name}")
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
            hint=f"{near(name, known)} the back ends are: {', '.join(known)}".strip(),
            code="unknown-backend",
            details={"backend": name, "known": list(known)},
        )
    require(known[name].requires, f"the back end {name!r}")
    return known[name]
