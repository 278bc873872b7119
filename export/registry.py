"""The formats a network can be exported to, by name.

A format is one file in this folder: a class with the `Format` interface, registered by the decorator
`register`. Nothing else has to change for a new one. A format starts from an ONNX file that is proven to
compute what the network computes. It imports the package it needs inside its functions, so that naming a
format is possible where its package is missing.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from compress.core.errors import CompressError, Exit, did_you_mean
from compress.core.spec import ModelSpec, Preprocess
from compress.export.options import Batch, BatchRange, Options, Precision
from compress.export.trust.manifest import TensorRecord

FLAGS = {
    "opset": "--opset",
    "simplify": "--simplify",
    "target_sm": "--target-sm",
    "timing_cache": "--timing-cache",
    "workspace_mb": "--workspace",
    "hardware_compat": "--hardware-compat",
    "version_compat": "--version-compat",
}
"""Options that not every format honours, with the flags a user knows them by."""


@dataclass(frozen=True)
class Job:
    """Everything that is needed to build a file.

    Attributes:
        model: the network, in eval mode, on the CPU.
        spec: its name and shapes.
        preprocess: what the input tensor means.
        classes: the names of the outputs, in order.
        run: name of the run folder, written into the file.
        images: float32 `[N, C, H, W]`, preprocessed test images for checks during the build.
        calibration: gives float32 `[M, C, H, W]`, preprocessed training images for activation ranges.
        options: the user's choices.
    """

    model: nn.Module
    spec: ModelSpec
    preprocess: Preprocess
    classes: tuple[str, ...]
    run: str
    images: NDArray[np.float32]
    calibration: Callable[[], NDArray[np.float32]]
    options: Options = field(default_factory=Options)


@dataclass(frozen=True)
class Source:
    """The ONNX file a format starts from, with the one in float32 that it was reduced from.

    Attributes:
        path: the file in the precision asked for.
        full: the file in float32; the same as `path` for fp32.
        precision: what the layers of `path` compute in.
        opset: its operator set.
        inputs, outputs: what goes in and what comes out.
        details: what happened on the way: simplification, layers kept in float32, calibration.
    """

    path: Path
    full: Path
    precision: Precision
    opset: int
    inputs: tuple[TensorRecord, ...]
    outputs: tuple[TensorRecord, ...]
    details: Mapping[str, Any]


@dataclass(frozen=True)
class Built:
    """What a format reports about the files it wrote.

    Attributes:
        inputs, outputs: what goes in and what comes out.
        precision: what the layers compute in.
        opset: of the ONNX file; None for a format that has none.
        tools: versions of what made it.
        details: for the manifest; under ``build``, how it was built.
        companions: names of the other files that belong to it, in the same folder.
    """

    inputs: tuple[TensorRecord, ...]
    outputs: tuple[TensorRecord, ...]
    precision: str
    opset: int | None = None
    tools: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    companions: tuple[str, ...] = ()


class Predictor(Protocol):
    """A loaded file that turns images into logits."""

    @property
    def batch(self) -> int | None:
        """The fixed batch size of the file, or None for any."""

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 `[N, classes]` for float32 `[N, C, H, W]`, N being any number of images."""


@dataclass(frozen=True)
class NotRun:
    """Why a file that was built cannot be run on this machine."""

    reason: str


class Format(Protocol):
    """A target of the export.

    Attributes:
        name: what the user gives to ``--format``.
        requires: the packages it imports, each with the name that pip knows.
        runtime: what runs its files, for people.
        honours: names of the options among `FLAGS`, and ``batch-range``, that it can honour.
        refusals: for those it cannot, why, and what to do instead.
    """

    name: str
    requires: Mapping[str, str]
    runtime: str
    honours: frozenset[str]
    refusals: Mapping[str, str]

    def filename(self, precision: Precision) -> str:
        """Return the name of its file in a run's export folder."""

    def build(self, job: Job, source: Source, path: Path) -> Built:
        """Write the file to `path`; raise `CompressError` (exit BUILD) when that is impossible."""

    def open(self, path: Path, precision: Precision) -> Predictor | NotRun:
        """Load a file that `build` wrote, for the parity check, where this machine can."""


_FORMATS: dict[str, Format] = {}
F = TypeVar("F", bound=type)


def register(cls: F) -> F:
    """Class decorator: make an instance known under its `name`."""
    instance: Format = cls()
    _FORMATS[instance.name] = instance
    return cls


def formats() -> dict[str, Format]:
    """Return every registered format by name; imports the files of this folder on first use."""
    for module in pkgutil.iter_modules([str(Path(__file__).with_name("formats"))]):
        importlib.import_module(f"compress.export.formats.{module.name}")
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
            hint=f"{did_you_mean(name, known)} {listing}".strip(),
            code="unknown-format",
            details={"format": name, "known": list(known)},
        )
    require(known[name].requires, f"the format {name!r}")
    return known[name]


def check_honoured(target: Format, options: Options) -> None:
    """Refuse an option that a format cannot honour, rather than drop it in silence.

    Raises:
        CompressError: naming the flag and the format (exit USAGE).
    """
    asked = {name: FLAGS[name] for name in options.given() if name in FLAGS}
    if isinstance(options.batch, BatchRange):
        asked["batch-range"] = f"--batch {options.batch}"
    for name, flag in asked.items():
        if name not in target.honours:
            raise CompressError(
                f"the format {target.name!r} cannot honour {flag}",
                hint=target.refusals.get(name, "leave it out"),
                code="option",
                details={"format": target.name, "flag": flag},
            )


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


__all__ = [
    "FLAGS",
    "Batch",
    "BatchRange",
    "Built",
    "Format",
    "Job",
    "NotRun",
    "Options",
    "Precision",
    "Predictor",
    "Source",
    "check_honoured",
    "format_named",
    "formats",
    "register",
    "require",
]
