"""The random resized crop of ImageNet's recipe, as numbers drawn from a seed of the image's own."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

AREA = (0.08, 1.0)
"""Share of the image's area that a crop has."""

RATIO = (3 / 4, 4 / 3)
"""Width over height of a crop."""

ATTEMPTS = 10
"""Draws before the centre is taken."""


@dataclass(frozen=True)
class Crop:
    """A rectangle of an image in pixels, and whether it is mirrored left to right."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool


def random_crop(height: int, width: int, seed: int) -> Crop:
    """Draw a crop of an image of that size (Szegedy et al., 2015), the same for the same seed everywhere.

    Area and the logarithm of the ratio are uniform; a crop that does not fit is drawn again. If none does, it
    is the largest one in the centre whose ratio is allowed.
    """
    draw = random.Random(seed).random  # not torch's generator: this one costs a microsecond
    mirrored = draw() < 0.5
    low, high = (math.log(ratio) for ratio in RATIO)
    for _ in range(ATTEMPTS):
        area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * draw())
        ratio = math.exp(low + (high - low) * draw())
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return Crop(_place(height - h, draw()), _place(width - w, draw()), h, w, mirrored)
    w, h = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
    return Crop((height - h) // 2, (width - w) // 2, h, w, mirrored)


def _place(room: int, share: float) -> int:
    return min(int(share * (room + 1)), room)
