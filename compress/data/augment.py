"""Random crops and flips of a whole batch by tensor operations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from compress.data.pixels import send


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of training images: pad with black, crop at a random position, flip at random.

    Attributes:
        pad: black pixels added on each side before the crop.
        flip: whether each image is flipped left to right with probability 1/2.
    """

    pad: int
    flip: bool

    def __str__(self) -> str:
        parts = [f"random crop (pad {self.pad})"] if self.pad else []
        parts += ["horizontal flip"] if self.flip else []
        return ", ".join(parts) or "none"

    def draw(self, n: int, generator: torch.Generator) -> CropsAndFlips:
        """Draw the crop positions and flips of `n` images."""
        span = 2 * self.pad + 1
        top = torch.randint(0, span, (n,), generator=generator)
        left = torch.randint(0, span, (n,), generator=generator)
        flipped = torch.rand(n, generator=generator) < 0.5
        return CropsAndFlips(self.pad, top, left, flipped & torch.tensor(self.flip))


@dataclass(frozen=True)
class CropsAndFlips:
    """Random values of `n` images: int64 crop corners `[n]` in the padded image, bool flips `[n]`."""

    pad: int
    top: Tensor
    left: Tensor
    flipped: Tensor

    def to(self, device: torch.device) -> CropsAndFlips:
        """Return the same values on `device`; does not wait for the copy."""
        return CropsAndFlips(self.pad, *(send(part, device) for part in (self.top, self.left, self.flipped)))

    def apply(self, images: Tensor, where: slice) -> Tensor:
        """Augment uint8 `images [b, C, H, W]` with the values at the positions `where`; same shape.

        Crop and flip are one gather, whose result is channels last in memory. No value is read back to the
        host, which would have to wait for the device.
        """
        top, left, flipped = self.top[where], self.left[where], self.flipped[where]
        height, width = images.shape[-2:]
        padded = F.pad(images, (self.pad,) * 4) if self.pad else images
        across = torch.arange(width, device=images.device)
        rows = top[:, None] + torch.arange(height, device=images.device)
        columns = left[:, None] + torch.where(flipped[:, None], width - 1 - across, across)
        image = torch.arange(len(images), device=images.device)[:, None, None]
        return padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
