"""Convert pixels to the network's input: channels, size and normalization."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from compress.core.errors import CompressError
from compress.core.spec import Preprocess

Size = tuple[int, int, int]
_CHUNK = 4096


def normalize(images: Tensor, preprocess: Preprocess) -> Tensor:
    """Map uint8 `[B, C, H, W]` to float32: divide by 255, subtract the mean, divide by the std."""
    return make_normalizer(preprocess, images.device)(images)


def make_normalizer(preprocess: Preprocess, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return `normalize` for many batches on `device`; its constants are copied there once."""
    mean, std = (_column(values, device) for values in (preprocess.mean, preprocess.std))
    return lambda images: images.to(torch.float32).div_(255).sub_(mean).div_(std)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to `device`; the host does not wait for a copy to a GPU."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@lru_cache(maxsize=64)
def _column(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return one value for each channel as `[C, 1, 1]`; cached, since a copy to a GPU makes the host wait."""
    return torch.tensor(values, device=device)[:, None, None]


def statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel of uint8 `[N, C, H, W]`, for pixels from 0 to 1.

    Rounded to 4 digits. The standard deviation of a constant channel is set to 1.
    """
    channels = images.shape[1]
    histogram = torch.stack(
        [torch.bincount(images[:, c].flatten(), minlength=256).double() for c in range(channels)]
    )
    levels = torch.arange(256, dtype=torch.float64) / 255
    share = histogram / histogram.sum(1, keepdim=True)
    mean = share @ levels
    variance = (share * (levels - mean[:, None]).square()).sum(1)
    std = variance.sqrt()
    return (
        tuple(round(m, 4) for m in mean.tolist()),
        tuple(round(s, 4) if s > 1e-3 else 1.0 for s in std.tolist()),
    )


def fit_channels(images: Tensor, channels: int, name: str) -> Tensor:
    """Return uint8 images `[N, C, H, W]` with `channels` channels; gray images are repeated to 3.

    Raises:
        CompressError: the images have another number of channels and are not gray.
    """
    own = images.shape[1]
    if own == channels:
        return images
    if own == 1 and channels == 3:
        return images.expand(-1, 3, -1, -1).contiguous()
    raise CompressError(
        f"{name} has images of {own} channels, and the input size has {channels}",
        hint=f"give --input-size {own},H,W" + (" or 3,H,W" if own == 1 else ""),
        code="input-size",
    )


def shorter_side(native: tuple[int, int], size: tuple[int, int]) -> int | None:
    """Return the shorter side to resize to so that a crop of `size` just fits; None if nothing changes."""
    if native == size:
        return None
    scale = max(size[0] / native[0], size[1] / native[1])
    return max(round(min(native) * scale), min(size))


def resize(images: Tensor, size: tuple[int, int]) -> tuple[Tensor, int | None]:
    """Resize uint8 `[N, C, h, w]` to cover `size` and crop the center, as `Preprocess` defines.

    Bilinear, anti-aliased like Pillow when shrinking. Returns the images `[N, C, *size]` and the shorter side
    they were resized to (None: they had that size).
    """
    native = (images.shape[2], images.shape[3])
    side = shorter_side(native, size)
    if side is None:
        return images, None
    scale = side / min(native)
    height, width = (max(round(n * scale), w) for n, w in zip(native, size, strict=True))
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    out = torch.empty(len(images), images.shape[1], *size, dtype=torch.uint8)
    for start in range(0, len(images), _CHUNK):
        part = images[start : start + _CHUNK].to(torch.float32)
        part = F.interpolate(part, (height, width), mode="bilinear", align_corners=False, antialias=True)
        part = part[:, :, top : top + size[0], left : left + size[1]]
        out[start : start + _CHUNK] = part.round_().clamp_(0, 255).to(torch.uint8)
    return out, side
