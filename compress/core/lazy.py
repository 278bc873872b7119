"""Module attributes that are imported on first use, so that importing a package stays fast."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_attributes(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package whose names are imported when they are first used.

    A name must not be the name of a submodule of the package: importing the submodule would replace it.

    Args:
        package: ``__name__`` of the package.
        homes: dotted name of the module that defines each attribute, relative to the package without the
            leading dot, such as ``{"load": "artifact.compact"}``.

    Example:
        >>> __getattr__ = lazy_attributes("compress.core", {"CompressError": "errors"})
        >>> __getattr__("CompressError").__name__
        'CompressError'
    """

    def load_attribute(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return load_attribute
