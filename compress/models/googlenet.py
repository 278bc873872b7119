"""GoogLeNet in its CIFAR form: a 3x3 stem at full resolution, nine inception modules, no auxiliary heads.

Szegedy et al. 2015, https://arxiv.org/abs/1409.4842; every convolution is followed by a norm, and the
5x5 branch has two 3x3 convolutions, as in the filter-pruning papers (1.53 G MACs, 6.17 M parameters).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compress.models.initialization import initialize_weights
from compress.models.registry import MODELS

# name: in, 1x1, reduce 3x3, 3x3, reduce 5x5, 5x5, pool projection (Szegedy et al., table 1)
_INCEPTIONS = {
    "a3": (192, 64, 96, 128, 16, 32, 32),
    "b3": (256, 128, 128, 192, 32, 96, 64),
    "a4": (480, 192, 96, 208, 16, 48, 64),
    "b4": (512, 160, 112, 224, 24, 64, 64),
    "c4": (512, 128, 128, 256, 24, 64, 64),
    "d4": (512, 112, 144, 288, 32, 64, 64),
    "e4": (528, 256, 160, 320, 32, 128, 128),
    "a5": (832, 256, 160, 320, 32, 128, 128),
    "b5": (832, 384, 192, 384, 48, 128, 128),
}


class ConvNorm(nn.Module):
    """A convolution with bias, a norm and a ReLU; the image size does not change."""

    def __init__(self, in_width: int, width: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_width, width, kernel, padding=kernel // 2)
        self.bn = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, in_width, H, W]` to `[B, width, H, W]`."""
        y: Tensor = self.relu(self.bn(self.conv(x)))
        return y


class Inception(nn.Module):
    """Four branches, whose outputs are concatenated in the order 1x1, 3x3, 5x5, pooling."""

    def __init__(
        self, in_width: int, one: int, three_in: int, three: int, five_in: int, five: int, pool: int
    ) -> None:
        super().__init__()
        self.branch1x1 = ConvNorm(in_width, one, 1)
        self.branch3x3 = nn.Sequential(ConvNorm(in_width, three_in, 1), ConvNorm(three_in, three, 3))
        self.branch5x5 = nn.Sequential(
            ConvNorm(in_width, five_in, 1), ConvNorm(five_in, five, 3), ConvNorm(five, five, 3)
        )
        self.branch_pool = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), ConvNorm(in_width, pool, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, in_width, H, W]` to `[B, one + three + five + pool, H, W]`."""
        branches = [self.branch1x1(x), self.branch3x3(x), self.branch5x5(x), self.branch_pool(x)]
        return torch.cat(branches, dim=1)


class GoogLeNet(nn.Module):
    """The CIFAR GoogLeNet. Modules: ``pre_layers``, ``inception_a3`` ... ``inception_b5``, ``linear``.

    Args:
        num_classes: width of the output.
        in_channels: channels of the image.
    """

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.pre_layers = ConvNorm(in_channels, 192, 3)
        for name, widths in _INCEPTIONS.items():
            self.add_module(f"inception_{name}", Inception(*widths))
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(1024, num_classes)
        initialize_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images `[B, in_channels, H, W]` to logits `[B, num_classes]`."""
        x = self.pre_layers(x)
        for name in _INCEPTIONS:
            if name in ("a4", "a5"):
                x = self.maxpool(x)
            x = self.get_submodule(f"inception_{name}")(x)
        out: Tensor = self.linear(self.avgpool(x).flatten(1))
        return out


@MODELS.register("googlenet")
def googlenet(num_classes: int = 10, in_channels: int = 3) -> GoogLeNet:
    """GoogLeNet for 32x32 images: 1.53 G MACs, 6.17 M parameters at 10 classes."""
    return GoogLeNet(num_classes, in_channels)
