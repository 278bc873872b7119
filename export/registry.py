"""The formats a network can be exported to, by name.

A format is one file in this folder: a class with the `Format` interface, registered by the decorator
`register`. Nothing else has to change for a new one. A format imports the package it needs inside its
functions, so that naming a format is possible where its package is missing.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from compress.errors import CompressError, Exit, near
from compress.spec import ModelSpec, Preprocess
from export.manifest import TensorRecord

Batch = int | Literal["dynamic"]
"""A fixed batch size, or any."""


@dataclass(frozen=True)
class Options:
    """What the user may choose about an export; a format refuses what it cannot honour."""

    opset: int | None = None
    batch: Batch = "dynamic"
    simplify: bool = False


@dataclass(frozen=True)
class Job:
    """Everything a format needs to build its file.

    Attributes:
        model: the network, in eval mode, on the CPU.
        spec: its name and shapes.
        preprocess: what the input tensor means.
        classes: the names of the outputs, in order.
        run: name of the run folder, written into the file.
        images: float32 `[N, C, H, W]`, preprocessed test images for checks during the build.
        options: the user's choices.
    """

    model: nn.Module
    spec: ModelSpec
    preprocess: Preprocess
    classes: tuple[str, ...]
    run: str
    images: NDArray[np.float32]
    options: Options = field(default_factory=Options)


@dataclass(frozen=True)
class Built:
    """What a format reports about the file it wrote."""

    inputs: tuple[TensorRecord, ...]
    outputs: tuple[TensorRecord, ...]
    precision: str
    opset: int | None = None
    tools: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


class Predictor(Protocol):
    """A loaded file that turns images into logits."""

    @property
    def batch(self) -> int | None:
        """The fixed batch size of the file, or None for any."""

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 `[N, classes]` for float32 `[N, C, H, W]`, N being any number of images."""


class Format(Protocol):
    """A target of the export.

    Attributes:
        name: what the user gives to ``--format``.
        filename: name of the file in the run's export folder.
        requires: the packages it imports, each with the name that pip knows.
    """

    name: str
    filename: str
    requires: Mapping[str, str]

    def build(self, job: Job, path: Path) -> Built:
        """Write the file to `path`; raise `CompressError` (exit BUILD) when that is impossible."""

    def open(self, path: Path) -> Predictor:
        """Load a file that `build` wrote, for the parity check."""


_FORMATS: dict[str, Format] = {}
F = TypeVar("F", bound=type)


def register(cls: F) -> F:
    """Class decorator: make an instance known under its `name`."""
    instance: Format = cls()
    _FORMATS[instance.name] = instance
    return cls


def formats() -> dict[str, Format]:
    """Return every registered format by name; imports the files of this folder on first use."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"export.{module.name}")
    return dict(sorted(_FORMATS.items()))


def format_named(name: str) -> Format:
    """Return the format called `name`, its packages being importable.

    Raises:
        CompressError: the name is unknown (exit USAGE) or a package is missing (exit MISSING).
    """
    known = formats()
    if name not in known:
        listing = f"the formats are: {', '.join(known)}"
        raise CompressError(
            f"there is no export format {name!r}",
            hint=f"{near(name, known)} {listing}".strip(),
            code="unknown-format",
            details={"format": name, "known": list(known)},
        )
    require(known[name].requires, f"the format {name!r}")
    return known[name]


def require(packages: Mapping[str, str], what: str) -> None:
    """Raise `CompressError` (exit MISSING, with the pip command) unless every package can be imported.

    Args:
        packages: import name to the name pip knows.
        what: who needs them, the start of the message.
    """
    missing = [module for module in packages if importlib.util.find_spec(module) is None]
    if missing:
        pip = " ".join(packages[module] for module in missing)
        raise CompressError(
            f"{what} needs the package{'s' if len(missing) > 1 else ''} {', '.join(missing)}, "
            f"not installed here",
            hint=f"pip install {pip}",
            code="missing-package",
            exit=Exit.MISSING,
            details={"missing": missing},
        )
