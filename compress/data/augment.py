"""Crops and flips of a whole batch by tensor operations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from compress.data.pixels import send


@dataclass(frozen=True)
class Augmentation:
    """What training does to an image: pad with black, crop back at a random place, perhaps mirror.

    Attributes:
        pad: black pixels added on each side before the crop.
        flip: whether half of the images are mirrored left to right.
    """

    pad: int
    flip: bool

    def __str__(self) -> str:
        parts = [f"random crop (pad {self.pad})"] if self.pad else []
        parts += ["horizontal flip"] if self.flip else []
        return ", ".join(parts) or "none"

    def draw(self, n: int, generator: torch.Generator) -> Draws:
        """Draw the places and flips of `n` images."""
        span = 2 * self.pad + 1
        top = torch.randint(0, span, (n,), generator=generator)
        left = torch.randint(0, span, (n,), generator=generator)
        mirrored = torch.rand(n, generator=generator) < 0.5
        return Draws(self.pad, top, left, mirrored & torch.tensor(self.flip))


@dataclass(frozen=True)
class Draws:
    """What was drawn for `n` images: int64 crop corners `[n]` in the padded image, bool flips `[n]`."""

    pad: int
    top: Tensor
    left: Tensor
    mirrored: Tensor

    def to(self, device: torch.device) -> Draws:
        """The same draws where the images are, without waiting for the copy."""
        return Draws(self.pad, *(send(part, device) for part in (self.top, self.left, self.mirrored)))

    def apply(self, images: Tensor, where: slice) -> Tensor:
        """Augment uint8 `images [b, C, H, W]` with the draws of the stretch `where`; same shape.

        Crop and flip are one gather, whose result is channels last in memory; nothing depends on a value
        that the host would have to read.
        """
        top, left, mirrored = self.top[where], self.left[where], self.mirrored[where]
        height, width = images.shape[-2:]
        padded = F.pad(images, (self.pad,) * 4) if self.pad else images
        across = torch.arange(width, device=images.device)
        rows = top[:, None] + torch.arange(height, device=images.device)
        columns = left[:, None] + torch.where(mirrored[:, None], width - 1 - across, across)
        image = torch.arange(len(images), device=images.device)[:, None, None]
        return padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
