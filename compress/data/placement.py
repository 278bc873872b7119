"""Data on the device that trains: uint8 images copied there once, every batch made there.

The images of a step then cost neither a worker process nor a copy. Only data held in memory can move; what is
decoded image by image (`compress.data.decoded`) stays with the host's workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch

from compress.core.errors import CompressError, Exit
from compress.data.base import ImageData

Wish = Literal["auto", "on", "off"]

SHARE = 0.25
"""Most of the device's free memory that the images may take; the rest is for the network and its training."""


@runtime_checkable
class Movable(Protocol):
    """Data whose images can be held on a device."""

    @property
    def pixel_bytes(self) -> int:
        """Bytes that images and labels take."""
        ...

    def on_device(self, device: torch.device) -> ImageData:
        """The same data with images and labels on `device`."""
        ...


@dataclass(frozen=True)
class Placement:
    """Where the images are during a training.

    Attributes:
        data: the data, moved or not. on_device: whether batches are made on the device that trains.
        why: the reason, in words.
    """

    data: ImageData
    on_device: bool
    why: str


def place_data(
    data: ImageData, device: torch.device, wish: Wish = "auto", free: int | None = None
) -> Placement:
    """Move `data` to `device` if that is wished or, with ``auto``, if it fits into a share of free memory.

    Args:
        data: the images. device: where the network is trained.
        wish: ``on``, ``off``, or ``auto``.
        free: bytes that are free on the device; None: measured.

    Raises:
        CompressError: ``data-on-device``: ``on``, and the data cannot be moved or do not fit.
    """
    if wish == "off":
        return Placement(data, False, "not wished")
    if not isinstance(data, Movable):
        why = f"{data.info.name} is decoded image by image"
        if wish == "on":
            raise _refused(f"{why}; only data held in memory can be on the device")
        return Placement(data, False, why)
    if device.type == "cpu":
        return Placement(data, True, "in memory, where the CPU trains")
    free = free_bytes(device) if free is None else free
    need, most = data.pixel_bytes, SHARE * free
    size = f"{need / 1e6:,.0f} MB of images; {free / 1e6:,.0f} MB are free on {device}"
    if wish == "auto" and need > most:
        return Placement(data, False, f"{size}, of which they may take {SHARE:.0%}")
    try:
        return Placement(data.on_device(device), True, size)
    except torch.OutOfMemoryError as error:
        if wish == "on":
            raise _refused(f"{size}: out of memory") from error
        return Placement(data, False, f"{size}: out of memory")


def free_bytes(device: torch.device) -> int:
    """Return how much memory of a GPU is free, what torch holds without using it included."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return 0


def _refused(what: str) -> CompressError:
    return CompressError(
        f"data_on_device 'on': {what}",
        hint="use --data-on-device auto or off",
        code="data-on-device",
        exit=Exit.MISSING,
    )
