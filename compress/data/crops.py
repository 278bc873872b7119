"""The random resized crop of ImageNet training, determined by a seed for each image."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

AREA = (0.08, 1.0)
"""Smallest and largest share of the image's area in a crop."""

RATIO = (3 / 4, 4 / 3)
"""Smallest and largest ratio of a crop's width to its height."""

ATTEMPTS = 10
"""Random crops that are tried before the center crop is used."""


@dataclass(frozen=True)
class Crop:
    """A rectangle of an image in pixels, and whether it is flipped left to right."""

    top: int
    left: int
    height: int
    width: int
    flipped: bool


def random_crop(height: int, width: int, seed: int) -> Crop:
    """Draw a crop of an image of that size (Szegedy et al., 2015), the same for the same seed everywhere.

    Area and logarithm of the ratio are uniformly distributed; a crop that does not fit is drawn again.
    After `ATTEMPTS` draws it is the largest crop in the center whose ratio is within `RATIO`.
    """
    draw = random.Random(seed).random  # faster than a torch generator
    flipped = draw() < 0.5
    low, high = (math.log(ratio) for ratio in RATIO)
    for _ in range(ATTEMPTS):
        area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * draw())
        ratio = math.exp(low + (high - low) * draw())
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return Crop(_offset(height - h, draw()), _offset(width - w, draw()), h, w, flipped)
    w, h = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
    return Crop((height - h) // 2, (width - w) // 2, h, w, flipped)


def _offset(largest: int, share: float) -> int:
    return min(int(share * (largest + 1)), largest)
