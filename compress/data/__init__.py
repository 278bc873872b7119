"""Labeled images by name: what ``--data`` takes.

Small data sets are held in memory as uint8 tensors, and whole batches are augmented by tensor operations;
large ones are decoded by worker processes. Whatever is random in an epoch depends only on (seed, epoch, rank,
world, position): torch's global generator is neither read nor changed, so an epoch that is repeated is the
same bit by bit. A data set is one file that registers a loader in `DATASETS`.
"""

from __future__ import annotations

from compress.data.base import Batch, Batches, ImageData, check_class_count, deliver_to
from compress.data.normalization import with_normalization, with_preprocess
from compress.data.registry import DATASETS, DataRequest, DatasetEntry, list_datasets, load
from compress.data.user_data import UserData, from_torch

__all__ = [
    "DATASETS",
    "Batch",
    "Batches",
    "DataRequest",
    "DatasetEntry",
    "ImageData",
    "UserData",
    "check_class_count",
    "deliver_to",
    "from_torch",
    "list_datasets",
    "load",
    "with_normalization",
    "with_preprocess",
]
