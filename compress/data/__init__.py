"""Images by name: what a user may give to ``--data``.

A room for sources of labelled images and for how a batch is made of them. Small sets live in memory as
uint8 tensors and are augmented a batch at a time by tensor operations; large ones go through torch's
DataLoader. What is random in an epoch is a pure function of (seed, epoch, rank, world, position): torch's
global generator is neither read nor moved, so an epoch that is run again is the same to the bit. A source is
one small file that registers itself; nothing here knows of models or methods.
"""

from __future__ import annotations

from compress.data import cifar, digits, folder, hub, npz  # noqa: F401  (registers the sources)
from compress.data.base import Batch, Batches, ImageData, deliver_to
from compress.data.contract import with_normalization, with_preprocess
from compress.data.registry import list_datasets, load
from compress.data.user_data import UserData, from_torch

__all__ = [
    "Batch",
    "Batches",
    "ImageData",
    "UserData",
    "deliver_to",
    "from_torch",
    "list_datasets",
    "load",
    "with_normalization",
    "with_preprocess",
]
