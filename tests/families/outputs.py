"""Networks with several inputs or several outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from families.base import Net, block, case


@case("a.0", "b.0", "c.0", inputs=((2, 3, 8, 8), (2, 3, 8, 8)))
class SeveralInputs(Net):
    def __init__(self) -> None:
        super().__init__(8, 16)
        self.c = block(8, 8)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.classify(torch.cat([self.b(self.a(x)), self.c(self.a(y))], 1))


@case("a.0")
class NestedOutputs(Net):
    def forward(self, x: Tensor) -> dict[str, Any]:
        x = self.a(x)
        y = self.b(x)
        return {"out": self.classify(y), "aux": [self.classify(x), (self.classify(x + y),)]}


@case("a.0", b__0="network output")
class FeatureOutputs(Net):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.b(self.a(x))
        return self.classify(y), y
