"""Records used by several packages and stored in files: model, preprocessing, data set, costs.

They are validated on reading, and need no torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1
"""Version of run.json, model.json, plan.json, verify.json and manifest.json."""


class Record(BaseModel):
    """Base class of records: immutable, unknown keys are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSpec(Record):
    """What is needed to build a dense network again: its name, as for ``--model``, and its shapes.

    Attributes:
        name: ``resnet56``, ``torchvision/resnet50``, ``timm/NAME`` or ``path/to/file.py:factory``.
        num_classes: width of the last layer.
        input_size: ``(channels, height, width)`` of one image.
        source_sha256: SHA-256 of a model file's text, to notice a changed file; None for other models.
    """

    name: str
    num_classes: int = Field(ge=1)
    input_size: tuple[int, int, int]
    source_sha256: str | None = None


class Preprocess(Record):
    """How the input tensor of a network is made from an image.

    The input is float32 `[batch, channels, height, width]`. Decode the image to 8 bits per channel in `color`
    (stored orientation, alpha dropped), resize the shorter side to `resize` (None: do not resize), crop the
    center to the input size, map 0 to 255 onto `value_range`, subtract `mean`, divide by `std`, for each
    channel.

    Attributes:
        input_size: ``(channels, height, width)`` after the crop.
        mean, std: one value for each channel, for pixels in `value_range`.
        resampling: how sizes and pixels are rounded; both are anti-aliased when shrinking.
            ``float32``: the scale is `resize` / shorter side, each new side is the nearest integer (ties to
            even, at least the crop's), pixels are computed in float32 and rounded to 8 bits once (a value
            within rounding error of a half may differ by one of 255 levels), the crop starts at
            ``(side - crop) // 2``.
            ``pillow``: the longer side is rounded down, pixels are those of Pillow's `Image.resize` on 8-bit
            images, the crop starts at ``(side - crop) / 2`` rounded, ties to even.
    """

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    resampling: Literal["float32", "pillow"] = "float32"
    crop: Literal["center"] = "center"
    layout: Literal["NCHW"] = "NCHW"
    color: Literal["RGB", "L"] = "RGB"
    dtype: Literal["float32"] = "float32"
    value_range: tuple[Literal[0], Literal[1]] = (0, 1)


class DataInfo(Record):
    """Record of a data set.

    Attributes:
        name: as given to ``--data``, with absolute paths.
        classes: names of the labels 0, 1, ...
        train_size, test_size: numbers of images.
        fingerprint: SHA-256 that identifies the content.
        preprocess: how input tensors are made.
        augmentation: description of the augmentation in training.
    """

    name: str
    classes: tuple[str, ...]
    train_size: int
    test_size: int
    fingerprint: str
    preprocess: Preprocess
    augmentation: str

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)


class Costs(Record):
    """Costs of a network.

    Attributes:
        macs: multiply-accumulates of convolutions and linear layers for one image.
        params: number of parameters.
    """

    macs: int
    params: int
