"""Networks that answer with pictures: several outputs, skips over many layers, atrous pyramids."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from exactness import assert_exact, traced
from torch import Tensor, nn
from torchvision.models import segmentation

from compress.planning import make_plan


class UNet(nn.Module):
    """Two levels down and up again, with concatenated skips."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.down = self._double(3, 8), self._double(8, 16)
        self.bottom = self._double(16, 32)
        self.up1, self.join1 = nn.ConvTranspose2d(32, 16, 2, stride=2), self._double(32, 16)
        self.up2, self.join2 = nn.ConvTranspose2d(16, 8, 2, stride=2), self._double(16, 8)
        self.head = nn.Conv2d(8, 4, 1)

    @staticmethod
    def _double(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        first = self.enter(x)
        second = self.down(F.max_pool2d(first, 2))
        x = self.bottom(F.max_pool2d(second, 2))
        x = self.join1(torch.cat([self.up1(x), second], 1))
        out: Tensor = self.head(self.join2(torch.cat([self.up2(x), first], 1)))
        return out


def _deeplab() -> nn.Module:
    model: nn.Module = segmentation.deeplabv3_resnet50(
        weights=None, weights_backbone=None, num_classes=4, aux_loss=True
    )
    return model


def _lraspp() -> nn.Module:
    model: nn.Module = segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=4
    )
    return model


@pytest.mark.parametrize(
    ("build", "size"), [(UNet, 32), (_deeplab, 64), (_lraspp, 64)], ids=["unet", "deeplabv3", "lraspp"]
)
def test_segmentation_network_is_cut_exactly_except_for_its_outputs(
    build: Callable[[], nn.Module], size: int
) -> None:
    torch.manual_seed(0)
    model = build()
    images = torch.randn(2, 3, size, size)
    graph = traced(model, images)
    plan = make_plan(graph, macs=0.5, criterion="random")
    assert_exact(model, plan, images)
    assert plan.narrow.macs <= 0.51 * plan.dense.macs
    assert {p.why for p in graph.protected} == {"network output"}
