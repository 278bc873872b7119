"""A generated folder of JPEG photographs, for benchmarks and tests: sizes of ImageNet, nothing downloaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (500, 375)
"""Width and height of most of ImageNet's images."""

QUALITY = 96
"""Of the JPEG files; at this one they have about 110 kB, as ImageNet's have on average."""


def image_folder(
    top: Path,
    *,
    train: int,
    val: int,
    classes: int = 2,
    size: tuple[int, int] = SIZE,
    quality: int = QUALITY,
    seed: int = 0,
) -> Path:
    """Write `train` and `val` images in `classes` classes under `top` and return it.

    An image is blurred noise with a little grain, of about the bytes of a photograph. Its class is in its
    colour, so that a network can learn it.
    """
    draw = np.random.default_rng(seed)
    for part, count in (("train", train), ("val", val)):
        for number in range(count):
            label = number % classes
            folder = top / part / f"class{label}"
            folder.mkdir(parents=True, exist_ok=True)
            _image(draw, label / max(classes - 1, 1), size).save(folder / f"{number}.jpg", quality=quality)
    return top


def _image(draw: np.random.Generator, hue: float, size: tuple[int, int]) -> Image.Image:
    width, height = size
    coarse = draw.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
    grain = draw.integers(-12, 13, (height, width, 3))
    tint = np.array([1 - hue, 0.5, hue]) * 160 - 80
    return Image.fromarray(np.clip(smooth + grain + tint, 0, 255).astype(np.uint8))
