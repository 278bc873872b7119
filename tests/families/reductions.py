"""Reductions over the channel dimension."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from families.base import Net, block, case


@case("a.0", "b.0")
class SumOverChannels(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.classify(self.b(x * torch.sigmoid(x.sum(1, keepdim=True))))


@case("a.0", "b.0")
class Maxout(Net):
    """The maximum of two halves: both are cut at the same indices."""

    def __init__(self) -> None:
        super().__init__(8)
        self.b = block(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.a(x).chunk(2, 1)
        return self.classify(self.b(torch.maximum(first, second)))


@case("a.0", "b.0")
class MaxoutByView(Net):
    def __init__(self) -> None:
        super().__init__(8)
        self.b = block(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        n, c, h, w = x.shape
        return self.classify(self.b(x.view(n, c // 2, 2, h, w).amax(2)))


@case("a.0", "b.0")
class MeanAndNormOverChannels(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = x - x * torch.sigmoid(x.mean((1, 2, 3), keepdim=True))
        return self.classify(F.normalize(self.b(x * x.mean(1, keepdim=True)), dim=1))


@case("b.0", a__0="over channels")
class MeanOfShiftedChannels(Net):
    """A removed channel is not zero where the mean is taken, so the channels are protected."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.a(x))
        return self.classify(self.b(x * x.mean(1, keepdim=True)))


@case("b.0", a__0="softmax over channels")
class SoftmaxOverChannels(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(torch.softmax(self.a(x), 1)))
