"""The `case` decorator, the registry of cases, and the blocks that the networks are built from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=type[nn.Module])
Shapes = tuple[tuple[int, ...], ...]
IMAGES: Shapes = ((2, 3, 8, 8),)
"""Default input shapes: one batch of two images `[N, C, H, W]`."""


@dataclass(frozen=True)
class Case:
    """A network and the groups and protected layers that its channel graph must have.

    Attributes:
        build: builds the network with random weights.
        cut: names of groups that must exist.
        inputs: shapes of the network's inputs.
        protected: layers that must have protected channels, each with a part of the expected reason.
    """

    build: Callable[[], nn.Module]
    cut: tuple[str, ...]
    inputs: Shapes = IMAGES
    protected: dict[str, str] = field(default_factory=dict)

    def random_inputs(self) -> tuple[Tensor, ...]:
        """Return the same random inputs at every call."""
        generator = torch.Generator().manual_seed(7)
        return tuple(torch.randn(shape, generator=generator) for shape in self.inputs)


CASES: dict[str, Case] = {}
"""Cases by the name of the network's class."""


def case(*cut: str, inputs: Shapes = IMAGES, **protected: str) -> Callable[[Network], Network]:
    """Return a decorator that registers a network class; see `Case`.

    In the keyword arguments for `Case.protected`, two underscores stand for the dot of a layer's name.
    """

    def register(network: Network) -> Network:
        reasons = {layer.replace("__", "."): reason for layer, reason in protected.items()}
        CASES[network.__name__] = Case(network, cut, inputs, reasons)
        return network

    return register


def conv(inputs: int, outputs: int, size: int = 3, **options: Any) -> nn.Conv2d:
    """Return a convolution that keeps height and width."""
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **options)


def block(inputs: int, outputs: int, size: int = 3, **options: Any) -> nn.Sequential:
    """Return a convolution, a batch norm and a ReLU."""
    return nn.Sequential(
        conv(inputs, outputs, size, bias=False, **options), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class Net(nn.Module):
    """Base class of the networks: two blocks, `a` and `b`, and a linear classifier `head`.

    Args:
        width: channels of `a` and `b`.
        features: inputs of the classifier; `width` if not given.
    """

    def __init__(self, width: int = 8, features: int | None = None) -> None:
        super().__init__()
        self.a = block(3, width)
        self.b = block(width, width)
        self.head = nn.Linear(features or width, 5)

    def classify(self, x: Tensor) -> Tensor:
        """Return logits `[N, 5]` of the mean of `[N, C, H, W]` over height and width."""
        out: Tensor = self.head(x.mean((2, 3)))
        return out
