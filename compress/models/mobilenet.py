"""MobileNetV2, with the strides of the paper for large images and smaller ones for small images.

Sandler et al. 2018, https://arxiv.org/abs/1801.04381, table 2.
"""

from __future__ import annotations

from torch import Tensor, nn

from compress.models.initialization import initialize_weights
from compress.models.registry import MODELS

_STAGES = (  # expansion, width, blocks, stride
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_SMALL_IMAGE = 96
"""Images with a shorter side below this, the smallest in the paper, get the CIFAR strides."""


class ConvNorm(nn.Sequential):
    """Convolution without bias, norm, and ReLU6 unless `linear`. Modules: ``conv``, ``bn``, ``relu``."""

    def __init__(
        self,
        in_width: int,
        width: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        conv = nn.Conv2d(
            in_width, width, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
        )
        self.add_module("conv", conv)
        self.add_module("bn", nn.BatchNorm2d(width))
        if not linear:
            self.add_module("relu", nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise convolution, linear 1x1 projection; residual if the shapes match."""

    def __init__(self, in_width: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_width * expansion
        self.residual = stride == 1 and in_width == width
        self.expand = ConvNorm(in_width, hidden) if expansion != 1 else nn.Identity()
        self.depthwise = ConvNorm(hidden, hidden, 3, stride, groups=hidden)
        self.project = ConvNorm(hidden, width, linear=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, in_width, H, W]` to `[B, width, ceil(H/stride), ceil(W/stride)]`."""
        out: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + out if self.residual else out


class MobileNetV2(nn.Module):
    """MobileNetV2 of width 1. Modules: ``stem``, ``blocks.0`` ... ``blocks.16``, ``head``, ``linear``.

    Args:
        num_classes: width of the output.
        in_channels: channels of the image.
        small: use the strides for images of about 32x32 (total stride 8 instead of 32) and no dropout.
    """

    def __init__(self, num_classes: int, in_channels: int, small: bool) -> None:
        super().__init__()
        self.stem = ConvNorm(in_channels, 32, 3, stride=1 if small else 2)
        blocks: list[nn.Module] = []
        width = 32
        for expansion, out, count, stride in _STAGES:
            first = 1 if small and out == 24 else stride
            for i in range(count):
                blocks.append(InvertedResidual(width, out, first if i == 0 else 1, expansion))
                width = out
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvNorm(width, 1280)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.0 if small else 0.2)
        self.linear = nn.Linear(1280, num_classes)
        initialize_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images `[B, in_channels, H, W]` to logits `[B, num_classes]`."""
        x = self.avgpool(self.head(self.blocks(self.stem(x))))
        out: Tensor = self.linear(self.dropout(x.flatten(1)))
        return out


@MODELS.register("mobilenetv2")
def mobilenetv2(
    num_classes: int = 10, in_channels: int = 3, input_size: tuple[int, int, int] = (3, 32, 32)
) -> MobileNetV2:
    """MobileNetV2: 300.8 M MACs, 3.50 M parameters at 1000 classes and 224x224 images."""
    return MobileNetV2(num_classes, in_channels, small=min(input_size[1:]) < _SMALL_IMAGE)
