"""Data movement: views, transpositions, shuffles and space-to-depth."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from families.base import Net, block, case


@case("a.0", "c.0")
class ShuffleByView(Net):
    def __init__(self) -> None:
        super().__init__(8)
        self.c = block(8, 8, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.classify(self.c(x))


@case("a.0", "c.0")
class ShuffleModule(Net):
    def __init__(self) -> None:
        super().__init__(8)
        self.shuffle, self.c = nn.ChannelShuffle(2), block(8, 8, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.c(self.shuffle(self.a(x))))


@case("b.0", "c.0")
class ShuffleNet(Net):
    """Two ShuffleNetV2 units: the residual stream passes a shuffle and a chunk."""

    def __init__(self) -> None:
        super().__init__(8)
        self.b, self.c = block(4, 4), block(4, 4)
        self.d = block(4, 4)
        self.e = block(4, 4)

    def unit(self, x: Tensor, one: nn.Module, two: nn.Module) -> Tensor:
        left, right = x.chunk(2, 1)
        x = torch.cat([left, two(one(right))], 1)
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.unit(self.unit(self.a(x), self.b, self.d), self.c, self.e))


@case("a.0", "b.0")
class PixelShuffle(Net):
    def __init__(self) -> None:
        super().__init__(8)
        self.b = block(2, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(F.pixel_shuffle(self.a(x), 2)))


@case("a.0", "b.0")
class PixelUnshuffle(Net):
    def __init__(self) -> None:
        super().__init__(6, 4)
        self.b = block(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(F.pixel_unshuffle(self.a(x), 2)))


@case("a.0", "b.0")
class SpaceToDepth(Net):
    """YOLO's focus layer: four shifted, subsampled images are concatenated."""

    def __init__(self) -> None:
        super().__init__(6, 4)
        self.b = block(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)
        return self.classify(self.b(x))


@case("a.0", "b.0")
class SpaceToDepthByView(Net):
    def __init__(self) -> None:
        super().__init__(6, 4)
        self.b = block(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        n, c, h, w = x.shape
        x = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4).contiguous()
        return self.classify(self.b(x.view(n, c * 4, h // 2, w // 2)))


@case("a.0")
class FlattenToLinear(Net):
    def __init__(self) -> None:
        super().__init__(8, 8 * 16)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.flatten(F.max_pool2d(self.a(x), 2), 1))
        return out


@case("a.0")
class FlattenChannelsLast(Net):
    def __init__(self) -> None:
        super().__init__(8, 8 * 16)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(F.max_pool2d(self.a(x), 2).permute(0, 2, 3, 1).flatten(1))
        return out


@case("a.0", "b.0")
class ViewByBatch(Net):
    def __init__(self) -> None:
        super().__init__(8, 8 * 64)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x))
        out: Tensor = self.head(x.view(x.size(0), -1))
        return out


@case("a.0")
class ViewHardCoded(Net):
    def __init__(self) -> None:
        super().__init__(8, 8 * 64)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.a(x).view(-1, 8 * 64))
        return out
