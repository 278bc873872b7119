"""One small network for each family of operators: what moves, joins, mixes or measures channels.

`CASES` names each network, its inputs, the groups that must be cut and the layers that must be protected.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations


@dataclass(frozen=True)
class Case:
    """A network and what its graph must say.

    Attributes:
        build: makes the network. inputs: shapes of its inputs.
        cut: groups that must exist. protected: layers with protected channels, with a word of the reason.
        widths: for groups that keep a share of their channels under every plan, none by default.
    """

    build: Callable[[], nn.Module]
    cut: tuple[str, ...]
    inputs: tuple[tuple[int, ...], ...] = ((2, 3, 8, 8),)
    protected: dict[str, str] = field(default_factory=dict)


CASES: dict[str, Case] = {}


def case(
    *cut: str, inputs: tuple[tuple[int, ...], ...] = ((2, 3, 8, 8),), **protected: str
) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Register a network under its class's (or function's) name."""

    def register(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        CASES[build.__name__] = Case(
            build, cut, inputs, {k.replace("__", "."): v for k, v in protected.items()}
        )
        return build

    return register


def conv(inputs: int, outputs: int, size: int = 3, **options: Any) -> nn.Conv2d:
    """A convolution that keeps the picture's size."""
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **options)


def block(inputs: int, outputs: int, size: int = 3, **options: Any) -> nn.Sequential:
    """Convolution, norm, ReLU."""
    return nn.Sequential(
        conv(inputs, outputs, size, bias=False, **options), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class Net(nn.Module):
    """A stem `a`, whatever a case adds, and a classifier `head`."""

    def __init__(self, width: int = 8, features: int | None = None) -> None:
        super().__init__()
        self.a = block(3, width)
        self.b = block(width, width)
        self.head = nn.Linear(features or width, 5)

    def classify(self, x: Tensor) -> Tensor:
        """Mean over space and a linear layer."""
        out: Tensor = self.head(x.mean((2, 3)))
        return out


@case("a.0", "b.0")
class Plain(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(self.a(x)))


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


@case("a.0", "b.0", "c.0")
class Chunk(Net):
    """A C2f block: half passes, half is worked on, all are concatenated."""

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
    """PConv: only the first channels are convolved."""

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
    """Two units of ShuffleNetV2: the stream goes through shuffle and chunk."""

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
    """YOLO's focus: four shifted pictures."""

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


@case("a.0", "fc1")
class SqueezeExciteConv(Net):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.classify(x * torch.sigmoid(self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1))))))


@case("a.0", "fc.0")
class SqueezeExciteLinear(Net):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 8), nn.Hardsigmoid())

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        b, c, _, _ = x.size()
        y = F.adaptive_avg_pool2d(x, 1).view(b, c)
        return self.classify(x * self.fc(y).view(b, c, 1, 1).expand_as(x))


@case("b.0", a__0="conv1d")
class EfficientChannelAttention(Net):
    """A 1-d convolution over channels mixes neighbours: its channels stay."""

    def __init__(self) -> None:
        super().__init__()
        self.eca = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        y = x.mean((2, 3), keepdim=True).squeeze(-1).transpose(-1, -2)
        y = self.eca(y).transpose(-1, -2).unsqueeze(-1)
        return self.classify(self.b(x * torch.sigmoid(y)))


@case("a.0", "b.0")
class OneChannelAttention(Net):
    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.classify(self.b(x * torch.sigmoid(self.attend(x))))


@case("b.0", "fc.0", a__0="over channels")
class CBAM(Net):
    """Channel attention by mean and max; spatial attention by the maximum over channels protects."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 8))
        self.space = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        scale = torch.sigmoid(self.fc(x.mean((2, 3))) + self.fc(x.amax((2, 3))))
        x = x * scale[:, :, None, None]
        maps = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return self.classify(self.b(x * torch.sigmoid(self.space(maps))))


@case("a.0", "b.0")
class SumOverChannels(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.classify(self.b(x * torch.sigmoid(x.sum(1, keepdim=True))))


@case("a.0", "b.0")
class Maxout(Net):
    """The larger of two halves: both are cut alike."""

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


@case("a.0")
class Shared(Net):
    """One module used twice."""

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


@case("b.0", a="statistics")
class GroupNormOfOneGroup(Net):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = conv(3, 8), nn.GroupNorm(1, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(self.norm(self.a(x))))


@case("a")
class GroupNorm(Net):
    """The channels of a norm's group stay or go together."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = conv(3, 8), nn.GroupNorm(4, 8)
        self.plain = nn.GroupNorm(2, 8, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.a(x))
        return self.classify(self.plain(self.b(x)) + x)


class NormedBlock(nn.Module):
    """A residual branch of pre-activated group norms whose blocks differ from the stream's."""

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
    """A norm's group joins channels that a shuffle brought together; a grouped convolution reads them."""

    def __init__(self) -> None:
        super().__init__(16)
        self.c, self.norm = conv(16, 16, groups=2), nn.GroupNorm(8, 16)
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(F.relu(self.norm(self.shuffle(self.c(self.a(x)))))))


@case("a.0", "b.0")
class GroupNormOverConcatenation(Net):
    """A norm's groups reach from one branch into the next."""

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
    """Permute, LayerNorm, linear; the wide layer is cut, the normalised stream stays."""

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
    """ConvNeXt V2's: each channel's norm over space against the mean of all of them."""

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


@case("a.0", "b.0")
class MeanAndNormOverChannels(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = x - x * torch.sigmoid(x.mean((1, 2, 3), keepdim=True))
        return self.classify(F.normalize(self.b(x * x.mean(1, keepdim=True)), dim=1))


@case("b.0", a__0="over channels")
class MeanOfShiftedChannels(Net):
    """A dropped channel is not zero where the mean is taken."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.a(x))
        return self.classify(self.b(x * x.mean(1, keepdim=True)))


@case("a.0", "b.0")
class LayerScale(Net):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(8, 1, 1))
        self.c = block(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x))
        return self.classify(x + self.gamma * self.c(x))


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


@case("a.0", "b.0", "fc1")
class RadixView(Net):
    """Split attention: the parts of a radix view are weighed and summed."""

    def __init__(self) -> None:
        super().__init__(8)
        self.b = block(8, 16, groups=2)
        self.fc1, self.fc2 = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x))
        n, c, h, w = x.shape
        parts = x.view(n, 2, c // 2, h, w)
        attention = self.fc2(F.relu(self.fc1(parts.sum(1).mean((2, 3), keepdim=True))))
        attention = torch.sigmoid(attention).view(n, 2, c // 2, 1, 1)
        return self.classify((parts * attention).sum(1))


@case("b.0", "fc1")
class SelectiveKernel(Net):
    """Softmax over two branches, not over channels."""

    def __init__(self) -> None:
        super().__init__(8)
        self.c = block(8, 8, 1)
        self.fc1, self.fc2, self.fc3 = nn.Linear(8, 4), nn.Linear(4, 8), nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        parts = torch.stack([self.b(x), self.c(x)], 1)
        z = F.relu(self.fc1(parts.sum(1).mean((2, 3))))
        weights = torch.softmax(torch.stack([self.fc2(z), self.fc3(z)], 1), 1)
        return self.classify((parts * weights[..., None, None]).sum(1))


@case("filters", "b.0")
class FunctionalWeights(Net):
    def __init__(self) -> None:
        super().__init__()
        self.filters, self.offset = nn.Parameter(torch.randn(8, 3, 3, 3)), nn.Parameter(torch.randn(8))
        self.rows = nn.Parameter(torch.randn(5, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.conv2d(x, self.filters, self.offset, padding=1))
        return F.linear(self.b(x).mean((2, 3)), self.rows)


@case("a.0", "b.0")
class ScaledWeights(Net):
    """Weight standardisation without the mean: each filter is divided by its own scale parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.scale = conv(8, 8, bias=False), nn.Parameter(torch.rand(8, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(self.a(x), self.c.weight * self.scale, padding=1)
        return self.classify(self.b(F.relu(x)))


@case("a.0")
class FrozenLayers(Net):
    def __init__(self) -> None:
        super().__init__()
        self.a.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(self.a(x)))


@case("c", "b.0", a__0="weight norm")
class WeightNormedConvolution(Net):
    def __init__(self) -> None:
        super().__init__()
        self.c = parametrizations.weight_norm(conv(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(F.relu(self.c(self.a(x)))))


@case("b.0")
class SpectralNormedConvolution(Net):
    def __init__(self) -> None:
        super().__init__()
        self.c = parametrizations.spectral_norm(conv(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(F.relu(self.c(self.a(x)))))


@case("a.0", "b.0")
class ScaledHeads(Net):
    """A parameter for each head is spread over the head's channels, which stay or go with it."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.rand(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        heads = x.view(x.shape[0], 4, 2, 64) * self.temperature
        return self.classify(self.b(heads.view(x.shape[0], 8, 8, 8)))


@case("b.0", a__0="over channels")
class WeightSummedOverInputs(Net):
    """Nothing makes the inputs of a weight zero: a sum over them needs them all."""

    def __init__(self) -> None:
        super().__init__()
        self.c = conv(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.classify(self.b(F.relu(self.c(x) * self.c.weight.sum((1, 2, 3))[:, None, None])))


@case("b.0", a__0="read elsewhere")
class GroupedWeightReadTwice(Net):
    """Each group would keep inputs of its own, but the weight is measured as a whole, too."""

    def __init__(self) -> None:
        super().__init__()
        self.c = conv(8, 8, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.c.weight.square().mean((1, 2, 3))[:, None, None]
        return self.classify(self.b(F.relu(self.c(self.a(x)) * scale)))


class StandardisedConv(nn.Conv2d):
    """Weight standardisation by batch norm over each filter, with a gain, as the NF-Nets have it."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, groups: int = 1, gain: bool = True) -> None:
        super().__init__(inputs, outputs, size, padding=size // 2, groups=groups)
        self.gain = nn.Parameter(torch.rand(outputs, 1, 1, 1)) if gain else None

    def forward(self, x: Tensor) -> Tensor:
        gain = None if self.gain is None else (self.gain * 0.5).view(-1)
        rows = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(rows, None, None, weight=gain, training=True, momentum=0.0, eps=1e-6)
        return F.conv2d(
            x, weight.reshape_as(self.weight), self.bias, padding=self.padding, groups=self.groups
        )


@case("a.0", "c", "d")
class StandardisedByBatchNorm(Net):
    def __init__(self) -> None:
        super().__init__()
        self.c, self.d = StandardisedConv(8, 12), StandardisedConv(12, 8, 1, gain=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.d(F.relu(self.c(self.a(x)))))


@case("a.0", "c", "d", "f")
class StandardisedGroups(Net):
    """Each group of a standardised convolution keeps inputs of its own; then one for each channel."""

    def __init__(self) -> None:
        super().__init__(16)
        self.c, self.d = StandardisedConv(16, 16, groups=2), StandardisedConv(16, 32, groups=4, gain=False)
        self.e, self.f = StandardisedConv(32, 32, groups=32), StandardisedConv(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.d(F.relu(self.c(self.a(x))))
        return self.classify(self.b(F.relu(self.f(F.relu(self.e(x))))))


@case("a.0", "c", "b.0")
class StandardisedAfterShuffle(Net):
    """Its inputs arrive in another order than the standardised weight has them."""

    def __init__(self) -> None:
        super().__init__(16)
        self.c, self.shuffle = StandardisedConv(16, 16), nn.ChannelShuffle(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(F.relu(self.c(self.shuffle(self.a(x))))))


@case("a.0", "b.0")
class WeightStandardised(Net):
    """The statistics of a filter are taken over its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.gain = conv(8, 8, bias=False), nn.Parameter(torch.rand(8, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        w = self.c.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)
        return self.classify(self.b(F.relu(F.conv2d(self.a(x), w * self.gain, padding=1))))


@case("a.0", "up", "b.0")
class StandardisedTransposed(Net):
    """A transposed convolution whose filters, its weight's second dimension, are standardised together."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        spread, mean = torch.var_mean(self.up.weight, (0, 2, 3), keepdim=True)
        w = (self.up.weight - mean) * torch.rsqrt(spread + 1e-5)
        return self.classify(self.b(F.relu(F.conv_transpose2d(self.a(x), w, self.up.bias, 2))))


@case("a.0", "b.0")
class StandardisedLinear(Net):
    """The rows of a matrix normalised one by one, by an operator without parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x)).mean((2, 3))
        w = F.layer_norm(self.fc.weight, self.fc.weight.shape[1:])
        return self.head(x + F.linear(x, w, self.fc.bias))  # type: ignore[no-any-return]


@case("b.0", a__0="mixes")
class StandardisedTwoWays(Net):
    """The weight is read as it is, too: its computed value cannot take its name."""

    def __init__(self) -> None:
        super().__init__()
        self.c = StandardisedConv(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.classify(self.b(F.relu(self.c(x) + F.conv2d(x, self.c.weight, padding=1))))


@case("b.0", a__0="over channels", c="over channels")
class StandardisedToNonZero(Net):
    """A row of zeros does not stay zero: the largest weight is subtracted from one."""

    def __init__(self) -> None:
        super().__init__()
        self.c = conv(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        w = self.c.weight + (1.0 - self.c.weight.amax((1, 2, 3), keepdim=True))
        return self.classify(self.b(F.relu(F.conv2d(self.a(x), w, padding=1))))


@case("b.0", a__0="over channels")
class StandardisedAcrossFilters(Net):
    """Each filter depends on all others: without one, the rest would be others too."""

    def __init__(self) -> None:
        super().__init__()
        self.c = conv(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        w = self.c.weight / (1.0 + self.c.weight.amax((0, 1, 2, 3), keepdim=True))
        return self.classify(self.b(F.relu(F.conv2d(self.a(x), w, padding=1))))


@case("a.0", "b.0")
class MaskParameter(Net):
    def __init__(self) -> None:
        super().__init__()
        self.mask = nn.Parameter((torch.rand(8, 8, 3, 3) > 0.3).float())

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(self.a(x), self.b[0].weight * self.mask, padding=1)
        return self.classify(self.b[1:](x))


@case("a.0", "b.0")
class MaskBuffer(Net):
    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", (torch.rand(1, 8, 1, 1) > 0.3).float())

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(self.a(x) * self.mask))


@case("a.0", "b.0")
class ChannelGateParameter(Net):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.rand(8))

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(self.a(x) * torch.sigmoid(self.gate).view(1, -1, 1, 1)))


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


@case("a.0")
class MultiHeadAttention(nn.Module):
    """Attention after a CNN: heads stay, the columns that read the CNN are cut."""

    def __init__(self) -> None:
        super().__init__()
        self.a = block(3, 12)
        self.project = nn.Linear(12, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.wide, self.head = nn.Linear(8, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.project(self.a(x).flatten(2).transpose(1, 2))
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        out: Tensor = self.head(F.gelu(self.wide(tokens)).mean(1))
        return out


@case("a.0")
class AttentionOnChannels(nn.Module):
    """Queries, keys and values read the CNN directly."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.qkv, self.out = block(3, 12), nn.Linear(12, 24), nn.Linear(8, 6)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.a(x).flatten(2).transpose(1, 2)
        n, t, _ = tokens.shape
        q, k, v = self.qkv(tokens).reshape(n, t, 3, 2, 4).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(4), -1)
        y = (weights @ v).transpose(1, 2).reshape(n, t, 8)
        out: Tensor = self.head(self.out(y).mean(1))
        return out


@case("a.0", "b.0")
class PerChannelActivation(Net):
    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.PReLU(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(self.slope(self.a(x))))


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


@case("a.0", "b.0")
class HalfPrecisionInside(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.classify(self.b(x.to(torch.float64).to(x.dtype)))


@case("b.0", a__0="softmax over channels")
class SoftmaxOverChannels(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(torch.softmax(self.a(x), 1)))


@case("b.0", a__0="not zero")
class SigmoidBeforeConvolution(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(torch.sigmoid(self.a(x))))


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
