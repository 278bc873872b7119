"""Group, instance, layer, batch and global response normalization."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from families.base import Net, block, case, conv


@case("b.0", a="statistics")
class GroupNormOfOneGroup(Net):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = conv(3, 8), nn.GroupNorm(1, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(self.norm(self.a(x))))


@case("a")
class GroupNorm(Net):
    """The channels of a norm's group are kept or removed together."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = conv(3, 8), nn.GroupNorm(4, 8)
        self.plain = nn.GroupNorm(2, 8, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.a(x))
        return self.classify(self.plain(self.b(x)) + x)


class NormedBlock(nn.Module):
    """A pre-activation residual block whose group norms have groups of different sizes."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.first, self.one = nn.GroupNorm(4, width), conv(width, inner, bias=False)
        self.second, self.two = nn.GroupNorm(4, inner), conv(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.two(F.relu(self.second(self.one(F.relu(self.first(x))))))
        return out


@case("stem", "blocks.0.one", "blocks.1.one")
class GroupNormedResidual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = conv(3, 16), nn.GroupNorm(8, 16)
        self.blocks = nn.Sequential(NormedBlock(16, 8), NormedBlock(16, 12))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.last(self.blocks(self.stem(x))).mean((2, 3)))
        return out


@case("a.0", "c", "b.0")
class GroupNormAfterShuffle(Net):
    """A group norm after a grouped convolution and a shuffle: its groups mix the convolution's groups."""

    def __init__(self) -> None:
        super().__init__(16)
        self.c, self.norm = conv(16, 16, groups=2), nn.GroupNorm(8, 16)
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(F.relu(self.norm(self.shuffle(self.c(self.a(x)))))))


@case("a.0", "b.0")
class GroupNormOverConcatenation(Net):
    """A group of the norm contains channels of two branches."""

    def __init__(self) -> None:
        super().__init__()
        self.b, self.c = block(8, 6), block(8, 6)
        self.norm, self.d = nn.GroupNorm(3, 12), block(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.classify(self.d(self.norm(torch.cat([self.b(x), self.c(x)], 1))))


@case("a", "b.0")
class GroupNormOfSingleChannels(Net):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = conv(3, 8), nn.GroupNorm(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(self.norm(self.a(x))))


@case("a", "b.0")
class InstanceNorm(Net):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = conv(3, 8), nn.InstanceNorm2d(8, affine=True, track_running_stats=True)
        self.plain = nn.InstanceNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(self.plain(self.norm(self.a(x)))))


@case("a", "b.0")
class NormWithoutAffine(Net):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = conv(3, 8), nn.BatchNorm2d(8, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(self.norm(self.a(x))))


@case("wide", stem="statistics", down="statistics")
class ConvNeXtBlock(nn.Module):
    """A ConvNeXt block: the wide layer is cut, the layer norm protects the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = conv(3, 8), nn.LayerNorm(8)
        self.wide, self.down = nn.Linear(8, 16), nn.Linear(16, 8)
        self.scale = nn.Parameter(torch.rand(8))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.down(F.gelu(self.wide(self.norm(x.permute(0, 2, 3, 1))))) * self.scale
        out: Tensor = self.head((x + y.permute(0, 3, 1, 2)).mean((2, 3)))
        return out


class GlobalResponseNorm(nn.Module):
    """ConvNeXt V2's GRN: each channel's L2 norm over space, divided by the mean of all channels' norms."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(width)), nn.Parameter(torch.rand(width))

    def forward(self, x: Tensor) -> Tensor:
        size = x.norm(p=2, dim=(1, 2), keepdim=True)
        relative = size / (size.mean(-1, keepdim=True) + 1e-6)
        return x + torch.addcmul(self.bias, self.weight, x * relative)


@case("wide", stem="statistics")
class ConvNeXtV2Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = conv(3, 8), nn.LayerNorm(8)
        self.wide, self.response, self.down = nn.Linear(8, 16), GlobalResponseNorm(16), nn.Linear(16, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.down(self.response(F.gelu(self.wide(self.norm(x.permute(0, 2, 3, 1))))))
        out: Tensor = self.head((x + y.permute(0, 3, 1, 2)).mean((2, 3)))
        return out
