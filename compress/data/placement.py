"""Where the images are held: on the device that trains, or on the host.

On the device, uint8 images are copied once and every batch is computed there, so that a training step needs
neither a worker process nor a copy. Only data held in memory can be placed there; what is decoded image by
image (`compress.data.decoded`) stays with the host's workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch

from compress.core.errors import CompressError, Exit
from compress.core.formatting import format_megabytes
from compress.data.base import ImageData

Mode = Literal["auto", "on", "off"]
"""Values of the setting ``data_on_device``."""

MAX_SHARE = 0.25
"""Largest share of the device's free memory that images may take; the rest is for network and training."""


@runtime_checkable
class Movable(Protocol):
    """Data whose images can be held on a device."""

    @property
    def pixel_bytes(self) -> int:
        """Size of images and labels in bytes."""
        ...

    def on_device(self, device: torch.device) -> ImageData:
        """Return the same data with images and labels on `device`."""
        ...


@dataclass(frozen=True)
class Placement:
    """Where the images are held during a training.

    Attributes:
        data: the data, moved or not.
        on_device: whether batches are computed on the device that trains.
        why: the reason.
    """

    data: ImageData
    on_device: bool
    why: str


def place_data(
    data: ImageData, device: torch.device, mode: Mode = "auto", free: int | None = None
) -> Placement:
    """Move `data` to `device` if `mode` is ``on``, or if it is ``auto`` and the images fit.

    Args:
        data: the images.
        device: where the network is trained.
        mode: ``on``, ``off``, or ``auto``: move data of up to `MAX_SHARE` of the free memory.
        free: free bytes on the device; None: measured.

    Raises:
        CompressError: (exit 3) ``data-on-device``: `mode` is ``on``, and the data cannot be moved or do not
            fit.
    """
    if mode == "off":
        return Placement(data, False, "switched off")
    if not isinstance(data, Movable):
        why = f"{data.info.name} is decoded image by image"
        if mode == "on":
            raise _cannot_place(f"{why}; only data held in memory can be on the device")
        return Placement(data, False, why)
    if device.type == "cpu":
        return Placement(data, True, "in memory, and the CPU trains")
    free = free_bytes(device) if free is None else free
    size = f"{format_megabytes(data.pixel_bytes)} of images; {format_megabytes(free)} are free on {device}"
    if mode == "auto" and data.pixel_bytes > MAX_SHARE * free:
        return Placement(data, False, f"{size}, of which they may take {MAX_SHARE:.0%}")
    try:
        return Placement(data.on_device(device), True, size)
    except torch.OutOfMemoryError as error:
        if mode == "on":
            raise _cannot_place(f"{size}: out of memory") from error
        return Placement(data, False, f"{size}: out of memory")


def free_bytes(device: torch.device) -> int:
    """Return the free memory of a GPU in bytes, including what torch has reserved but does not use."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return 0


def _cannot_place(what: str) -> CompressError:
    return CompressError(
        f"data_on_device 'on': {what}",
        hint="use --data-on-device auto or off",
        code="data-on-device",
        exit=Exit.MISSING,
    )
