"""From pixels to the network's input: layout, channels, size and normalisation."""

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


def normalise(images: Tensor, preprocess: Preprocess) -> Tensor:
    """Map uint8 `[B, C, H, W]` to float32: divide by 255, subtract the mean, divide by the deviation."""
    return normaliser(preprocess, images.device)(images)


def normaliser(preprocess: Preprocess, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return `normalise` for many batches on `device`: its constants are brought there once."""
    mean, std = (_column(values, device) for values in (preprocess.mean, preprocess.std))
    return lambda images: images.to(torch.float32).div_(255).sub_(mean).div_(std)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to `device`; the host does not wait for a copy to a GPU."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@lru_cache(maxsize=64)
def _column(values: tuple[float, ...], device: torch.device) -> Tensor:
    """A value a channel, to broadcast over `[B, C, H, W]`; made once, as making it would wait for a GPU."""
    return torch.tensor(values, device=device)[:, None, None]


def statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation a channel, on the 0 to 1 scale, of uint8 `[N, C, H, W]`.

    A channel that is constant gets deviation 1. Rounded to 4 digits, as such numbers are written.
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
    """Repeat gray uint8 images `[N, 1, H, W]` to `channels`; leave images that have as many already.

    Raises:
        CompressError: the images have another number of channels.
    """
    have = images.shape[1]
    if have == channels:
        return images
    if have == 1 and channels == 3:
        return images.expand(-1, 3, -1, -1).contiguous()
    raise CompressError(
        f"{name} has images of {have} channels and the input size asks for {channels}",
        hint=f"give --input-size {have},H,W" + (" or 3,H,W" if have == 1 else ""),
        code="input-size",
    )


def covering(native: tuple[int, int], wanted: tuple[int, int]) -> int | None:
    """Return the shorter side to resize to so that a crop of `wanted` just fits; None if nothing changes."""
    if native == wanted:
        return None
    scale = max(wanted[0] / native[0], wanted[1] / native[1])
    return max(round(min(native) * scale), min(wanted))


def resize(images: Tensor, wanted: tuple[int, int]) -> tuple[Tensor, int | None]:
    """Resize uint8 `[N, C, h, w]` to cover `wanted` and crop its centre, as `Preprocess` says.

    Bilinear; when shrinking, with the anti-aliasing of Pillow. Returns the images `[N, C, *wanted]` and the
    shorter side they were resized to (None: they had that size).
    """
    native = (images.shape[2], images.shape[3])
    side = covering(native, wanted)
    if side is None:
        return images, None
    scale = side / min(native)
    height, width = (max(round(n * scale), w) for n, w in zip(native, wanted, strict=True))
    top, left = (height - wanted[0]) // 2, (width - wanted[1]) // 2
    out = torch.empty(len(images), images.shape[1], *wanted, dtype=torch.uint8)
    for start in range(0, len(images), _CHUNK):
        part = images[start : start + _CHUNK].to(torch.float32)
        part = F.interpolate(part, (height, width), mode="bilinear", align_corners=False, antialias=True)
        part = part[:, :, top : top + wanted[0], left : left + wanted[1]]
        out[start : start + _CHUNK] = part.round_().clamp_(0, 255).to(torch.uint8)
    return out, side
