"""VGG in its CIFAR form: biased 3x3 convolutions, each with a norm, and one linear layer.

Simonyan and Zisserman 2015, https://arxiv.org/abs/1409.1556.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from compress.models.initialization import initialize_weights
from compress.models.registry import MODELS


class VGG(nn.Module):
    """Stages of convolutions with 2x2 max pooling between them, global average pooling, a linear layer.

    Modules: ``features.conv1``, ``features.bn1``, ``features.relu1``, ... in order; ``features.pool1``
    after each stage but the last; ``classifier``.

    Args:
        stages: widths of the convolutions in each stage.
        num_classes: width of the output.
        in_channels: channels of the image.
    """

    def __init__(self, stages: Sequence[Sequence[int]], num_classes: int, in_channels: int) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        width, n = in_channels, 0
        for stage, widths in enumerate(stages, start=1):
            for out in widths:
                n += 1
                layers[f"conv{n}"] = nn.Conv2d(width, out, 3, padding=1)
                layers[f"bn{n}"] = nn.BatchNorm2d(out)
                layers[f"relu{n}"] = nn.ReLU(inplace=True)
                width = out
            if stage < len(stages):
                layers[f"pool{stage}"] = nn.MaxPool2d(2)
        self.features = nn.Sequential(layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(width, num_classes)
        initialize_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images `[B, in_channels, H, W]` to logits `[B, num_classes]`."""
        x = self.avgpool(self.features(x))
        out: Tensor = self.classifier(x.flatten(1))
        return out


@MODELS.register("vgg16", min_side=16)
def vgg16(num_classes: int = 10, in_channels: int = 3) -> VGG:
    """VGG-16 for 32x32 images: 313.2 M MACs, 14.73 M parameters at 10 classes."""
    stages = [[64] * 2, [128] * 2, [256] * 3, [512] * 3, [512] * 3]
    return VGG(stages, num_classes, in_channels)


@MODELS.register("vgg_small", min_side=4)
def vgg_small(num_classes: int = 10, in_channels: int = 3) -> VGG:
    """Six convolutions of 32, 64 and 128 filters: small enough to train in seconds on a CPU."""
    return VGG([[32] * 2, [64] * 2, [128] * 2], num_classes, in_channels)
