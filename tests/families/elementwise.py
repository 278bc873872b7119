"""Elementwise operators: activations, per-channel scales, masks and casts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from families.base import Net, block, case


@case("a.0", "b.0")
class PerChannelActivation(Net):
    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.PReLU(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(self.slope(self.a(x))))


@case("a.0", "b.0")
class ChannelGateParameter(Net):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.rand(8))

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(self.a(x) * torch.sigmoid(self.gate).view(1, -1, 1, 1)))


@case("a.0", "b.0")
class LayerScale(Net):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(8, 1, 1))
        self.c = block(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x))
        return self.classify(x + self.gamma * self.c(x))


@case("a.0", "b.0")
class MaskBuffer(Net):
    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", (torch.rand(1, 8, 1, 1) > 0.3).float())

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(self.a(x) * self.mask))


@case("b.0", a__0="not zero")
class SigmoidBeforeConvolution(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(torch.sigmoid(self.a(x))))


@case("a.0", "b.0")
class HalfPrecisionInside(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.classify(self.b(x.to(torch.float64).to(x.dtype)))
