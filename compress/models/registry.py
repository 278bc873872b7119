"""The registry of built-in networks: a decorator files a factory under its function's name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from compress.core.errors import CompressError

Factory = Callable[..., nn.Module]
"""Builds a dense network; called with those of `num_classes`, `in_channels`, `input_size` it accepts."""


@dataclass(frozen=True)
class Entry:
    """A registered factory and the smallest image side its strides and pools allow."""

    factory: Factory
    min_side: int


_ENTRIES: dict[str, Entry] = {}


def register(*, min_side: int = 1) -> Callable[[Factory], Factory]:
    """File the decorated factory under its own name.

    Args:
        min_side: smallest height and width, in pixels, that the network can take.

    Raises:
        ValueError: the name is already taken.
    """

    def decorate(factory: Factory) -> Factory:
        name = factory.__name__
        if name in _ENTRIES:
            raise ValueError(f"a model named {name!r} is registered twice")
        _ENTRIES[name] = Entry(factory, min_side)
        return factory

    return decorate


def list_models() -> list[str]:
    """Return the names of the built-in networks, sorted."""
    return sorted(_ENTRIES)


def is_builtin(name: str) -> bool:
    """Say whether `name` is a built-in network."""
    return name in _ENTRIES


def build_builtin(name: str, num_classes: int, input_size: tuple[int, int, int]) -> nn.Module:
    """Build the registered network `name`.

    Raises:
        CompressError: the images are smaller than the network can take.
    """
    entry = _ENTRIES[name]
    if min(input_size[1:]) < entry.min_side:
        raise CompressError(
            f"{name} takes images of at least {entry.min_side}x{entry.min_side} pixels,"
            f" not {input_size[1]}x{input_size[2]}",
            hint=f"give an input size of at least {entry.min_side}, or choose a shallower network",
            code="input-size",
        )
    return entry.factory(**accepted(entry.factory, num_classes, input_size))


def accepted(factory: Factory, num_classes: int, input_size: tuple[int, int, int]) -> dict[str, Any]:
    """Return those of `num_classes`, `in_channels` and `input_size` that `factory` takes by keyword."""
    offered: dict[str, Any] = {
        "num_classes": num_classes,
        "in_channels": input_size[0],
        "input_size": input_size,
    }
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # some callables written in C have no signature
        return {}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        named = {p.name for p in parameters}
        # **kwargs usually travels on to another factory: give it the one word they all know
        return {k: v for k, v in offered.items() if k in named or k == "num_classes"}
    by_keyword = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return {k: v for k, v in offered.items() if k in by_keyword}
