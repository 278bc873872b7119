"""Concatenations along the channels."""

from __future__ import annotations

import torch
from torch import Tensor

from families.base import Net, block, case


@case("a.0", "b.0")
class Concatenate(Net):
    def __init__(self) -> None:
        super().__init__(8, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.classify(torch.cat([x, self.b(x)], 1))


@case("a.0", "b.0", "c.0", "d.0")
class NestedConcatenate(Net):
    def __init__(self) -> None:
        super().__init__(8, 6)
        self.c, self.d = block(16, 4), block(8 + 16 + 4, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        both = torch.cat([x, self.b(x)], 1)
        return self.classify(self.d(torch.cat([both, self.c(both), x], 1)))


@case("a.0", "c.0")
class ConcatenateTwice(Net):
    def __init__(self) -> None:
        super().__init__(8, 6)
        self.c = block(16, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.classify(self.c(torch.cat([x, x], 1)))


@case("a.0", "b.0")
class AddOfConcatenations(Net):
    def __init__(self) -> None:
        super().__init__(8, 16)
        self.c = block(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = torch.cat([x, self.b(x)], 1)
        return self.classify(x + self.c(x))
