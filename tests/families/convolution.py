"""Convolutions: grouped, depthwise, transposed, one-dimensional, functional and frozen."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from families.base import Net, block, case


@case("a.0", "b.0")
class Plain(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(self.a(x)))


@case("a.0")
class Depthwise(Net):
    def __init__(self) -> None:
        super().__init__()
        self.b = block(8, 8, groups=8)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(self.a(x)))


@case("a.0")
class DepthwiseMultiplier(Net):
    def __init__(self) -> None:
        super().__init__(8, 24)
        self.b = block(8, 24, groups=8)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(self.a(x)))


@case("a.0", "b.0", "c.0")
class Grouped(Net):
    def __init__(self) -> None:
        super().__init__(12)
        self.b, self.c = block(12, 24, groups=3), block(24, 12, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.c(self.b(self.a(x))))


@case("a.0", "b.0")
class GroupedResidual(Net):
    def __init__(self) -> None:
        super().__init__(8)
        self.b, self.c = block(8, 16, groups=2), block(16, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.classify(x + self.c(self.b(x)))


@case("a.0", "up", "b.0")
class Transposed(Net):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.b = nn.ConvTranspose2d(8, 6, 2, stride=2), block(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(self.up(self.a(x))))


@case("a.0", "b.0")
class TransposedDepthwise(Net):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2, groups=8)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(self.up(self.a(x))))


@case("b.0", a__0="grouped transposed", up="grouped transposed")
class TransposedGrouped(Net):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(self.up(self.a(x))))


@case("a.0", "b.0", "c.0")
class OneDimensional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Conv1d(3, 8, 3, padding=1), nn.BatchNorm1d(8), nn.ReLU())
        self.b = nn.Sequential(nn.Conv1d(8, 8, 3), nn.ReLU(), nn.MaxPool1d(2))
        self.c = nn.Sequential(nn.ConvTranspose1d(8, 6, 2), nn.ReLU())
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.c(self.b(self.a(x.flatten(2)))).mean(-1))
        return out


@case("filters", "b.0")
class FunctionalWeights(Net):
    def __init__(self) -> None:
        super().__init__()
        self.filters, self.offset = nn.Parameter(torch.randn(8, 3, 3, 3)), nn.Parameter(torch.randn(8))
        self.rows = nn.Parameter(torch.randn(5, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.conv2d(x, self.filters, self.offset, padding=1))
        return F.linear(self.b(x).mean((2, 3)), self.rows)


@case("a.0")
class FrozenLayers(Net):
    def __init__(self) -> None:
        super().__init__()
        self.a.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(self.a(x)))
