"""Shortcuts whose channels are padded with zeros."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from families.base import Net, block, case


@case("b.0")
class PaddedShortcut(Net):
    """Option A of the CIFAR ResNets: subsample and pad with zeros."""

    def __init__(self) -> None:
        super().__init__(8, 16)
        self.b, self.c = block(8, 16, stride=2), block(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.classify(self.c(self.b(x)) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)))


@case("b.0")
class PaddedByConcatenation(Net):
    def __init__(self) -> None:
        super().__init__(8, 16)
        self.b, self.c = block(8, 16), block(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.classify(self.c(self.b(x)) + torch.cat([x, torch.zeros_like(x)], 1))
