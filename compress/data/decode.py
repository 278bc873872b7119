"""Decode image files to RGB pixels: JPEG by torchvision, other formats by Pillow.

Both use libjpeg and give the same pixels for an RGB or gray JPEG; torchvision returns a tensor directly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compress.core.errors import CompressError, Exit

_JPEG = b"\xff\xd8\xff"


def pillow_rgb(path: str) -> Any:
    """Return the image in a file as a Pillow image in mode RGB.

    Raises:
        CompressError: (exit 3) ``data-unreadable``, naming the file.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = str(error) if path not in str(error) else type(error).__name__
        raise CompressError(
            f"image {path} cannot be decoded: {reason}",
            hint="replace the file or remove it",
            code="data-unreadable",
            exit=Exit.MISSING,
        ) from error


def pixels_rgb(path: str) -> Tensor:
    """Return the image in a file as uint8 `[3, H, W]`.

    Raises:
        CompressError: as `pillow_rgb`.
    """
    from torchvision.io import ImageReadMode, decode_jpeg
    from torchvision.transforms.v2 import functional

    try:
        content = Path(path).read_bytes()
        if content.startswith(_JPEG):
            # bytearray: torch warns about a tensor over bytes, which are read-only
            pixels: Tensor = decode_jpeg(
                torch.frombuffer(bytearray(content), dtype=torch.uint8), mode=ImageReadMode.RGB
            )
            return pixels
    except (OSError, RuntimeError):
        pass  # Pillow reads more kinds of JPEG, and its errors are clearer
    image: Tensor = functional.pil_to_tensor(pillow_rgb(path))
    return image
