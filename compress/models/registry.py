"""`MODELS`: the networks that ``--model`` knows by a plain name.

A built-in network is one file with a factory and `MODELS.register`. Another package adds one with an entry
point of the group ``compress.models`` that names a factory, or a `ModelEntry`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from torch import nn

from compress.core.errors import CompressError
from compress.core.registry import Registry

Size = tuple[int, int, int]
"""Channels, height and width of one image."""

Factory = Callable[..., nn.Module]
"""Builds a dense network; called with those of `num_classes`, `in_channels`, `input_size` it accepts."""

D = TypeVar("D")


@dataclass(frozen=True)
class ModelEntry:
    """A registered network.

    Attributes:
        factory: builds the dense network.
        min_side: smallest height and width, in pixels, that its strides and pools allow.
    """

    factory: Factory
    min_side: int = 1

    def build(self, name: str, num_classes: int, input_size: Size) -> nn.Module:
        """Build the network; `name` is for the error message.

        Raises:
            CompressError: ``input-size``: the images are smaller than `min_side`; ``model-failed``: the
                factory returns something else than a module.
        """
        if min(input_size[1:]) < self.min_side:
            raise CompressError(
                f"{name} takes images of at least {self.min_side}x{self.min_side} pixels,"
                f" not {input_size[1]}x{input_size[2]}",
                hint=f"give an input size of at least {self.min_side}, or choose a network with fewer stages",
                code="input-size",
            )
        model: object = self.factory(**supported_arguments(self.factory, num_classes, input_size))
        if not isinstance(model, nn.Module):
            raise CompressError(
                f"the factory of model {name!r} returned a {type(model).__name__}, not a torch.nn.Module",
                hint="the factory must return the network",
                code="model-failed",
            )
        return model


class ModelRegistry(Registry[ModelEntry]):
    """A `Registry` whose decorator takes a factory."""

    def register(self, name: str, *, min_side: int = 1) -> Callable[[D], D]:
        """Return a decorator that registers a factory under `name`; see `ModelEntry`."""

        def decorate(factory: D) -> D:
            self.add(name, ModelEntry(cast(Factory, factory), min_side))
            return factory

        return decorate


def _entry(name: str, loaded: object) -> ModelEntry:
    if isinstance(loaded, ModelEntry):
        return loaded
    if not callable(loaded):
        raise TypeError(f"a {type(loaded).__name__} is not a factory")
    return ModelEntry(cast(Factory, loaded))


MODELS = ModelRegistry("model", group="models", package="compress.models", convert=_entry)


def supported_arguments(factory: Factory, num_classes: int, input_size: Size) -> dict[str, Any]:
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
        # **kwargs is usually passed on to another factory; all of them know num_classes
        return {k: v for k, v in offered.items() if k in named or k == "num_classes"}
    by_keyword = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return {k: v for k, v in offered.items() if k in by_keyword}
