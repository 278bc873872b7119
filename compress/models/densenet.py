"""DenseNet-40 for CIFAR: three dense blocks of twelve layers, growth 12, no bottlenecks, no compression.

Huang et al. 2017, https://arxiv.org/abs/1608.06993, section 4; the stem has twice the growth
rate in channels, as in the filter-pruning papers (282.9 M MACs, 1.06 M parameters).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compress.models.initialization import initialize_weights
from compress.models.registry import MODELS


class DenseLayer(nn.Module):
    """Norm, ReLU and a 3x3 convolution, whose `growth` channels are concatenated to the input."""

    def __init__(self, in_width: int, growth: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_width)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(in_width, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, in_width, H, W]` to `[B, in_width + growth, H, W]`."""
        return torch.cat([x, self.conv(self.relu(self.bn(x)))], dim=1)


class Transition(nn.Module):
    """Norm, ReLU, a 1x1 convolution and a 2x2 average pool between two blocks."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(width, width, 1, bias=False)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, width, H, W]` to `[B, width, H//2, W//2]`."""
        y: Tensor = self.pool(self.conv(self.relu(self.bn(x))))
        return y


class DenseNet(nn.Module):
    """A CIFAR DenseNet. Modules: ``conv1``, ``dense1.0`` ..., ``trans1``, ``trans2``, ``bn``, ``linear``.

    Args:
        layers: dense layers per block.
        growth: channels that each of them adds.
        num_classes: width of the output.
        in_channels: channels of the image.
    """

    def __init__(self, layers: int, growth: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        width = 2 * growth
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.dense1 = _block(width, layers, growth)
        width += layers * growth
        self.trans1 = Transition(width)
        self.dense2 = _block(width, layers, growth)
        width += layers * growth
        self.trans2 = Transition(width)
        self.dense3 = _block(width, layers, growth)
        width += layers * growth
        self.bn = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(width, num_classes)
        initialize_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images `[B, in_channels, H, W]` to logits `[B, num_classes]`."""
        x = self.trans1(self.dense1(self.conv1(x)))
        x = self.dense3(self.trans2(self.dense2(x)))
        x = self.avgpool(self.relu(self.bn(x)))
        out: Tensor = self.linear(x.flatten(1))
        return out


def _block(width: int, layers: int, growth: int) -> nn.Sequential:
    return nn.Sequential(*(DenseLayer(width + i * growth, growth) for i in range(layers)))


@MODELS.register("densenet40", min_side=4)
def densenet40(num_classes: int = 10, in_channels: int = 3) -> DenseNet:
    """DenseNet-40 (growth 12) for 32x32 images: 282.9 M MACs, 1.06 M parameters at 10 classes."""
    return DenseNet(12, 12, num_classes, in_channels)
