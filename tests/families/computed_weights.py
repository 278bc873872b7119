"""Weights that are computed in the forward pass: scaled, masked, normalized and standardized."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from families.base import Net, case, conv


@case("a.0", "b.0")
class ScaledWeights(Net):
    """Weight standardization without the mean: each filter is divided by its own scale parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.scale = conv(8, 8, bias=False), nn.Parameter(torch.rand(8, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(self.a(x), self.c.weight * self.scale, padding=1)
        return self.classify(self.b(F.relu(x)))


@case("a.0", "b.0")
class MaskParameter(Net):
    def __init__(self) -> None:
        super().__init__()
        self.mask = nn.Parameter((torch.rand(8, 8, 3, 3) > 0.3).float())

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(self.a(x), self.b[0].weight * self.mask, padding=1)
        return self.classify(self.b[1:](x))


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


@case("b.0", a__0="over channels")
class WeightSummedOverInputs(Net):
    """A sum over the input dimension of a weight needs all of it, since masking leaves inputs nonzero."""

    def __init__(self) -> None:
        super().__init__()
        self.c = conv(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.classify(self.b(F.relu(self.c(x) * self.c.weight.sum((1, 2, 3))[:, None, None])))


@case("b.0", a__0="read elsewhere")
class GroupedWeightReadTwice(Net):
    """A grouped convolution whose weight is also reduced as a whole: groups cannot keep different inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.c = conv(8, 8, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.c.weight.square().mean((1, 2, 3))[:, None, None]
        return self.classify(self.b(F.relu(self.c(self.a(x)) * scale)))


class StandardizedConv(nn.Conv2d):
    """Weight standardization by a batch norm over each filter, with an optional gain, as in NFNets."""

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
class StandardizedByBatchNorm(Net):
    def __init__(self) -> None:
        super().__init__()
        self.c, self.d = StandardizedConv(8, 12), StandardizedConv(12, 8, 1, gain=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.d(F.relu(self.c(self.a(x)))))


@case("a.0", "c", "d", "f")
class StandardizedGroups(Net):
    """Standardized grouped convolutions, whose groups keep different inputs, and a depthwise one."""

    def __init__(self) -> None:
        super().__init__(16)
        self.c, self.d = StandardizedConv(16, 16, groups=2), StandardizedConv(16, 32, groups=4, gain=False)
        self.e, self.f = StandardizedConv(32, 32, groups=32), StandardizedConv(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.d(F.relu(self.c(self.a(x))))
        return self.classify(self.b(F.relu(self.f(F.relu(self.e(x))))))


@case("a.0", "c", "b.0")
class StandardizedAfterShuffle(Net):
    """A shuffle changes the order of the channels before a standardized convolution."""

    def __init__(self) -> None:
        super().__init__(16)
        self.c, self.shuffle = StandardizedConv(16, 16), nn.ChannelShuffle(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(F.relu(self.c(self.shuffle(self.a(x))))))


@case("a.0", "b.0")
class WeightStandardized(Net):
    """Each filter is normalized by its mean and standard deviation over the inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.gain = conv(8, 8, bias=False), nn.Parameter(torch.rand(8, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        w = self.c.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)
        return self.classify(self.b(F.relu(F.conv2d(self.a(x), w * self.gain, padding=1))))


@case("a.0", "up", "b.0")
class StandardizedTransposed(Net):
    """A transposed convolution, standardized over its filters, the second dimension of its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        spread, mean = torch.var_mean(self.up.weight, (0, 2, 3), keepdim=True)
        w = (self.up.weight - mean) * torch.rsqrt(spread + 1e-5)
        return self.classify(self.b(F.relu(F.conv_transpose2d(self.a(x), w, self.up.bias, 2))))


@case("a.0", "b.0")
class StandardizedLinear(Net):
    """Each row of a weight matrix is normalized by a layer norm without parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x)).mean((2, 3))
        w = F.layer_norm(self.fc.weight, self.fc.weight.shape[1:])
        return self.head(x + F.linear(x, w, self.fc.bias))  # type: ignore[no-any-return]


@case("b.0", a__0="mixes")
class StandardizedTwoWays(Net):
    """The weight is also read unstandardized, so the computed weight cannot replace it."""

    def __init__(self) -> None:
        super().__init__()
        self.c = StandardizedConv(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.classify(self.b(F.relu(self.c(x) + F.conv2d(x, self.c.weight, padding=1))))


@case("b.0", a__0="over channels", c="over channels")
class StandardizedToNonZero(Net):
    """A filter of zeros does not stay zero: one minus its largest weight is added."""

    def __init__(self) -> None:
        super().__init__()
        self.c = conv(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        w = self.c.weight + (1.0 - self.c.weight.amax((1, 2, 3), keepdim=True))
        return self.classify(self.b(F.relu(F.conv2d(self.a(x), w, padding=1))))


@case("b.0", a__0="over channels")
class StandardizedAcrossFilters(Net):
    """Each filter depends on all others, so removing one would change the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.c = conv(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        w = self.c.weight / (1.0 + self.c.weight.amax((0, 1, 2, 3), keepdim=True))
        return self.classify(self.b(F.relu(F.conv2d(self.a(x), w, padding=1))))
