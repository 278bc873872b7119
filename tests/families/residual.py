"""Additions and modules that are called more than once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from families.base import Net, block, case


@case("a.0")
class Add(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.classify(x + self.b(x))


@case("a.0")
class AddInPlace(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        y = self.b(x)
        y += x
        return self.classify(F.relu_(y))


@case("a.0", "b.0")
class StackAndSum(Net):
    def __init__(self) -> None:
        super().__init__()
        self.c = block(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.classify(torch.stack([self.b(x), self.c(x)]).sum(0))


@case("a.0", "b.0")
class StackAndMean(Net):
    def __init__(self) -> None:
        super().__init__()
        self.c = block(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.classify(torch.stack([self.b(x), self.c(x)], 1).mean(1))


@case("a.0")
class Shared(Net):
    """One module that is called twice."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.classify(self.b(self.b(x)) + x)


@case("a.0", "c.0")
class Recursive(Net):
    def __init__(self) -> None:
        super().__init__()
        self.c = block(8, 4)
        self.d = block(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        for _ in range(3):
            x = x + self.d(self.c(x))
        return self.classify(x)


@case("a.0", "c.0")
class SharedWeights(Net):
    """Two modules that hold the same parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.d, self.e = block(8, 4), block(8, 4), block(4, 8)
        self.d[0].weight = self.c[0].weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.classify(self.e(self.c(x) + self.d(x)))
