"""Pooling and resizing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from families.base import Net, block, case


@case("a.0", "b.0", "c.0")
class PoolsAndResize(Net):
    def __init__(self) -> None:
        super().__init__(8, 8)
        self.c = block(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        down = F.avg_pool2d(F.max_pool2d(x, 3, 2, 1), 2)
        up = F.interpolate(self.b(down), size=x.shape[-2:], mode="bilinear", align_corners=False)
        return self.classify(self.c(torch.cat([x, up], 1)))
