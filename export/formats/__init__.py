"""Export formats: one file per target.

To add a format, write a module with a subclass of `Format` and register it:

    from compress.export.formats import FORMATS, Format

    @FORMATS.register("my-format")
    class MyFormat(Format):
        ...

Modules in this folder are discovered automatically; another package names its module in the entry point group
``compress.formats``. The attributes of the class are the only description of a format: the help of
``compress export``, `list_formats`, ``compress doctor`` and the checks of the options are made from them.

A format starts from an ONNX file whose outputs were compared with the network's. It imports the packages it
needs inside its methods, so that formats can be listed where a package is missing.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from compress.core.errors import CompressError, Exit
from compress.core.registry import Registry, subclass_of
from compress.export.options import PRECISIONS, BatchRange, Options, Precision
from compress.export.types import BuiltFile, ExportInputs, NotRun, OnnxSource, Predictor

FLAGS = {
    "opset": "--opset",
    "simplify": "--simplify",
    "target_sm": "--target-sm",
    "timing_cache": "--timing-cache",
    "workspace_mb": "--workspace",
    "hardware_compat": "--hardware-compat",
    "version_compat": "--version-compat",
}
"""Options that not every format supports, with their flags on the command line."""


class Format(ABC):
    """A target of the export. Instances have no state.

    Attributes:
        name: the value of ``--format``; the same as the registered name.
        summary: what its files are, in a few words for help and documentation.
        runtime: the runtime that runs its files, as people call it.
        suffix: how the names of its files end.
        packages: the packages it imports, each with its name for pip.
        precisions: the precisions it can be written in.
        options: names of the options it supports, among `FLAGS` and ``batch-range``.
        remedies: for options it does not support, the reason and what to do instead.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    runtime: ClassVar[str]
    suffix: ClassVar[str]
    packages: ClassVar[Mapping[str, str]]
    precisions: ClassVar[tuple[Precision, ...]] = PRECISIONS
    options: ClassVar[frozenset[str]] = frozenset({"opset", "simplify"})
    remedies: ClassVar[Mapping[str, str]] = {}

    def filename(self, precision: Precision) -> str:
        """Return the name of its file in a run's export folder, such as ``model.fp16.engine``."""
        return f"model.{precision}{self.suffix}"

    @abstractmethod
    def build(self, inputs: ExportInputs, source: OnnxSource, path: Path) -> BuiltFile:
        """Write the file to `path`.

        Raises:
            CompressError: the format cannot express the network (exit BUILD).
        """

    @abstractmethod
    def open(self, path: Path, precision: Precision) -> Predictor | NotRun:
        """Load a file that `build` wrote, for the parity check, if this machine can run it."""


FORMATS: Registry[type[Format]] = Registry(
    "export format",
    group="formats",
    package="compress.export.formats",
    convert=subclass_of(Format),  # type: ignore[type-abstract]
    error_code="unknown-format",
)
"""Every known format by name."""


def list_formats() -> list[str]:
    """Return the names of all export formats, sorted."""
    return FORMATS.names()


def get_format(name: str) -> Format:
    """Return the format called `name`, after checking that its packages are installed.

    Raises:
        CompressError: the name is unknown (``unknown-format``, exit USAGE) or a package is missing
            (``missing-package``, exit MISSING).
    """
    target = find_format(name)
    require_packages(target.packages, f"the format {name!r}")
    return target


def find_format(name: str) -> Format:
    """Return the format called `name`, whether its packages are installed or not.

    Raises:
        CompressError: the name is unknown (``unknown-format``, exit USAGE).
    """
    return FORMATS.get_or_raise(name)()


def check_supported(target: Format, options: Options) -> None:
    """Refuse a precision or an option that a format does not support.

    Raises:
        CompressError: naming the option and the format (``option``, exit USAGE).
    """
    if options.precision not in target.precisions:
        raise CompressError(
            f"the format {target.name!r} does not support --precision {options.precision}",
            hint=target.remedies.get("precision", f"give one of {', '.join(target.precisions)}"),
            code="option",
            details={"format": target.name, "flag": f"--precision {options.precision}"},
        )
    given = {name: FLAGS[name] for name in options.non_default() if name in FLAGS}
    if isinstance(options.batch, BatchRange):
        given["batch-range"] = f"--batch {options.batch}"
    for name, flag in given.items():
        if name not in target.options:
            raise CompressError(
                f"the format {target.name!r} does not support {flag}",
                hint=target.remedies.get(name, "leave it out"),
                code="option",
                details={"format": target.name, "flag": flag},
            )


def require_packages(packages: Mapping[str, str], what: str) -> None:
    """Check that every package is installed, without importing any.

    Args:
        packages: import name to the name pip knows.
        what: who needs them; the start of the message.

    Raises:
        CompressError: with the pip command (``missing-package``, exit MISSING).
    """
    missing = [module for module in packages if importlib.util.find_spec(module) is None]
    if missing:
        pip = " ".join(packages[module] for module in missing)
        raise CompressError(
            f"{what} needs the package{'s' if len(missing) > 1 else ''} {', '.join(missing)}, "
            "which is not installed",
            hint=f"pip install {pip}",
            code="missing-package",
            exit=Exit.MISSING,
            details={"missing": missing},
        )
