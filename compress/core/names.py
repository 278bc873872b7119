"""Names that the registries hold, read from the sources so that help and completion do not import torch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from compress.core.registry import static_names

_PACKAGE = Path(__file__).parents[1]

_FOLDERS = {
    "methods": "methods",
    "models": "models",
    "datasets": "data",
    "criteria": "planning/criteria",
    "formats": "export/formats",
    "backends": "bench/backends",
}
"""Folder of each registry's package, by the last part of its entry point group."""

KINDS = (*_FOLDERS, "recipes")
"""What `registered_names` and `fill_names` know."""

_PLACEHOLDER = re.compile(r"\{(" + "|".join(KINDS) + r")\}")


@cache
def registered_names(kind: str) -> tuple[str, ...]:
    """Return the names of one kind, sorted, without importing what registers them.

    Args:
        kind: one of `KINDS`.
    """
    if kind == "recipes":
        return tuple(sorted(path.stem for path in (_PACKAGE / "recipes").glob("*.toml")))
    return tuple(static_names(_PACKAGE / _FOLDERS[kind], kind))


def fill_names(text: str) -> str:
    """Replace placeholders such as ``{methods}`` by the names that are registered.

    Example:
        >>> fill_names("One of {colors}.")
        'One of {colors}.'
        >>> "ort-cpu" in fill_names("Back end: {backends}.")
        True
    """
    return _PLACEHOLDER.sub(lambda match: ", ".join(registered_names(match[1])), text)


def complete_names(kind: str, incomplete: str) -> list[str]:
    """Return the completions of an incomplete value, which may be a list with commas between."""
    return complete_list(registered_names(kind), incomplete)


def complete_list(names: Iterable[str], incomplete: str) -> list[str]:
    """Return the completions of the last name in a list with commas between.

    Example:
        >>> complete_list(["fp32", "fp16", "int8"], "int8,fp")
        ['int8,fp32', 'int8,fp16']
    """
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in names if name.startswith(last)]
