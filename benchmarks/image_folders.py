"""A generated folder of JPEG images with the sizes of ImageNet, for benchmarks and tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (500, 375)
"""Width and height of most of ImageNet's images."""

QUALITY = 96
"""Quality of the JPEG files; they have about 110 kB, as ImageNet's have on average."""


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

    An image is blurred noise with a little grain and has about as many bytes as a photograph. Its color
    depends on its class, so that a network can learn it.
    """
    random = np.random.default_rng(seed)
    for part, count in (("train", train), ("val", val)):
        for number in range(count):
            label = number % classes
            folder = top / part / f"class{label}"
            folder.mkdir(parents=True, exist_ok=True)
            _image(random, label / max(classes - 1, 1), size).save(folder / f"{number}.jpg", quality=quality)
    return top


def _image(random: np.random.Generator, hue: float, size: tuple[int, int]) -> Image.Image:
    width, height = size
    coarse = random.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
    grain = random.integers(-12, 13, (height, width, 3))
    tint = np.array([1 - hue, 0.5, hue]) * 160 - 80
    return Image.fromarray(np.clip(smooth + grain + tint, 0, 255).astype(np.uint8))
