"""Splits, slices and indices along the channels."""

from __future__ import annotations

import torch
from torch import Tensor

from families.base import Net, block, case


@case("a.0", "b.0", "c.0")
class Chunk(Net):
    """A C2f block: one half is kept, one is convolved, and all are concatenated."""

    def __init__(self) -> None:
        super().__init__(8, 10)
        self.b, self.c = block(4, 4), block(12, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.a(x).chunk(2, 1)
        return self.classify(self.c(torch.cat([first, second, self.b(second)], 1)))


@case("a.0", "c.0")
class ChunkResidual(Net):
    def __init__(self) -> None:
        super().__init__(8, 10)
        self.b, self.c = block(4, 4), block(8, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.a(x).chunk(2, 1)
        return self.classify(self.c(torch.cat([first, second + self.b(second)], 1)))


@case("a.0", "b.0", "c.0")
class UnevenSplit(Net):
    def __init__(self) -> None:
        super().__init__(10, 6)
        self.b, self.c = block(7, 7), block(3 + 7, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.a(x).split([3, 7], 1)
        return self.classify(self.c(torch.cat([first, self.b(second)], 1)))


@case("a.0", "a.0#2", "a.0#3", "c.0")
class Res2Net(Net):
    def __init__(self) -> None:
        super().__init__(12)
        self.b, self.c = block(4, 4), block(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        one, two, three = torch.split(self.a(x), 4, 1)
        two = self.b(two)
        return self.classify(torch.cat([one, two, self.c(two + three)], 1))


@case("a.0", "b.0")
class Slice(Net):
    """A partial convolution (PConv): only the first channels are convolved."""

    def __init__(self) -> None:
        super().__init__(8, 8)
        self.b = block(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.classify(torch.cat([self.b(x[:, :3]), x[:, 3:]], 1))


@case("a.0", "a.0#2")
class StridedSlice(Net):
    def __init__(self) -> None:
        super().__init__(8, 4)
        self.b = block(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.classify(self.b(x[:, ::2]) + x[:, 1::2])


@case("a.0", "b.0")
class IndexSelect(Net):
    order: Tensor

    def __init__(self) -> None:
        super().__init__(8, 8)
        self.register_buffer("order", torch.tensor([5, 1, 0, 7, 2, 3, 6, 4]))

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(self.a(x).index_select(1, self.order)))


@case("a.0", "b.0")
class IndexSelectConstant(Net):
    def __init__(self) -> None:
        super().__init__(8, 4)
        self.b = block(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(self.a(x).index_select(1, torch.tensor([6, 1, 0, 3]))))


@case("a.0", "b.0")
class IndexByList(Net):
    def __init__(self) -> None:
        super().__init__(8, 4)
        self.b = block(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(self.a(x)[:, [6, 1, 0, 3]]))


@case("a.0")
class InPlaceOnHalf(Net):
    """Part of a tensor is overwritten in place."""

    def __init__(self) -> None:
        super().__init__()
        self.b = block(4, 4)
        self.c = block(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        y = x.clone()
        y[:, :4] = self.b(x[:, :4])
        return self.classify(self.c(y))
