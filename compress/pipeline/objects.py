"""Data that is passed to the functions of Python: names, data sets, torch datasets or loaders."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader, Dataset

from compress import data as image_data
from compress.core.errors import CompressError
from compress.data import ImageData
from compress.pipeline.request import Size

TorchData = Dataset[Any] | DataLoader[Any]
DataLike = str | ImageData | tuple[TorchData, TorchData]
"""A name, a data set of this package, or a pair of torch datasets or data loaders: (training, test)."""


def as_image_data(
    data: DataLike, input_size: Size | None = None, workers: int = 2, num_classes: int | None = None
) -> ImageData:
    """Return the data set of a name, or one made from an object.

    Args:
        data: a name, a data set, or a pair of torch datasets or data loaders.
        input_size: see `compress.data.load`.
        workers: see `compress.data.load`.
        num_classes: of a pair whose datasets do not tell it.

    Raises:
        CompressError: as `compress.data.load` and `compress.data.from_torch`; ``data-format`` for another
            object.
    """
    if isinstance(data, str):
        return image_data.load(data, input_size, workers=workers)
    if isinstance(data, tuple | list) and len(data) == 2:
        return image_data.from_torch(data[0], data[1], default_classes=num_classes)
    if hasattr(data, "train_batches") and hasattr(data, "test_batches"):
        return data
    raise CompressError(
        f"data cannot be a {type(data).__name__}",
        hint="pass a name, a data set of compress.data, or a pair (train, test) of torch datasets or loaders",
        code="data-format",
    )
