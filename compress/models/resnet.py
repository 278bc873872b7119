"""The CIFAR ResNets with parameter-free, zero-padded shortcuts (option A).

He et al. 2016, https://arxiv.org/abs/1512.03385, section 4.2: 6n+2 layers, stages of 16, 32 and 64 channels.
Module names are those of widely used weight files for these networks, which can therefore be loaded.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from compress.core.errors import CompressError
from compress.models.initialization import initialize_weights
from compress.models.registry import MODELS


def padded_shortcut(x: Tensor, channels: int, stride: int) -> Tensor:
    """Carry a block's input `[B, c, H, W]` to `[B, channels, ceil(H/stride), ceil(W/stride)]`.

    Every `stride`-th pixel is kept, and zero channels are added on both sides. Their number is computed from
    the shape of `x`, so the code also works after channels were removed.

    Raises:
        CompressError: ``shortcut-width``: the branch has fewer channels than the input.
    """
    width = x.shape[1]
    if channels < width:
        raise CompressError(
            f"a padded shortcut cannot carry {width} channels to {channels}",
            hint="keep at least as many channels in each stage as in the one before",
            code="shortcut-width",
        )
    if stride != 1:
        x = x[:, :, ::stride, ::stride]
    if channels != width:
        left = channels // 2 - width // 2
        x = F.pad(x, (0, 0, 0, 0, left, channels - width - left))
    return x


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with norms, added to a padded shortcut."""

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(in_width, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, in_width, H, W]` to `[B, width, ceil(H/stride), ceil(W/stride)]`."""
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out = out + padded_shortcut(x, out.shape[1], self.stride)
        y: Tensor = self.relu2(out)
        return y


class ResNet(nn.Module):
    """A CIFAR ResNet of 6n+2 layers.

    Modules: ``conv1``, ``bn1``, ``layer1.0.conv1`` ... ``layer3.{n-1}.bn2``, ``linear``.

    Args:
        depth: number of layers, 6n+2.
        num_classes: width of the output.
        in_channels: channels of the image.
    """

    def __init__(self, depth: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth must be 6n+2, got {depth}")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(16, 16, blocks, 1)
        self.layer2 = _stage(16, 32, blocks, 2)
        self.layer3 = _stage(32, 64, blocks, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, num_classes)
        initialize_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images `[B, in_channels, H, W]` to logits `[B, num_classes]`."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        out: Tensor = self.linear(self.avgpool(x).flatten(1))
        return out


def _stage(in_width: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_width, width, stride)
    return nn.Sequential(first, *(BasicBlock(width, width, 1) for _ in range(blocks - 1)))


@MODELS.register("resnet20")
def resnet20(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """ResNet-20 for 32x32 images: 40.6 M MACs, 0.27 M parameters at 10 classes."""
    return ResNet(20, num_classes, in_channels)


@MODELS.register("resnet32")
def resnet32(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """ResNet-32 for 32x32 images: 68.9 M MACs, 0.46 M parameters at 10 classes."""
    return ResNet(32, num_classes, in_channels)


@MODELS.register("resnet44")
def resnet44(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """ResNet-44 for 32x32 images: 97.2 M MACs, 0.66 M parameters at 10 classes."""
    return ResNet(44, num_classes, in_channels)


@MODELS.register("resnet56")
def resnet56(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """ResNet-56 for 32x32 images: 125.5 M MACs, 0.85 M parameters at 10 classes."""
    return ResNet(56, num_classes, in_channels)


@MODELS.register("resnet110")
def resnet110(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """ResNet-110 for 32x32 images: 252.9 M MACs, 1.73 M parameters at 10 classes."""
    return ResNet(110, num_classes, in_channels)
