"""The plain records that travel between the parts and into files: what a model is, what a pixel means.

Everything here is validated, versioned JSON; nothing here needs torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1
"""Version of run.json, model.json, plan.json, verify.json and manifest.json."""


class Record(BaseModel):
    """A frozen record that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSpec(Record):
    """How a dense network is built again: the name a user gives to ``--model`` and its two shapes.

    Attributes:
        name: ``resnet56``, ``torchvision/resnet50``, ``timm/NAME`` or ``path/to/file.py:factory``.
        num_classes: width of the last layer.
        input_size: ``(channels, height, width)`` of one image.
        source_sha256: for a model file, the hash of its text, so that a changed file is noticed.
    """

    name: str
    num_classes: int = Field(ge=1)
    input_size: tuple[int, int, int]
    source_sha256: str | None = None


class Preprocess(Record):
    """The contract between pixels and the network's input tensor, readable by a machine.

    The input is float32 `[batch, channels, height, width]`: decode to 8 bits a channel in `color` (stored
    orientation, alpha dropped), resize the shorter side to `resize` (None: leave), crop the centre to the
    input size, map 0 to 255 onto `value_range`, subtract `mean`, divide by `std`, channel by channel.

    Attributes:
        input_size: ``(channels, height, width)`` after the crop.
        resampling: how sizes and pixels are rounded; shrinking is anti-aliased in both.
            ``float32``: the scale is `resize` / shorter side, each new side is the nearest integer (ties to
            even, at least the crop's), pixels are computed in float32 and rounded to 8 bits once (what is
            within a float's error of a half may come out one of 255 levels apart), the crop starts at
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
    """What a data set is: its name as given, its classes and sizes, and a fingerprint of its content."""

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
    """What a network costs: multiply-accumulates of one image (convolution and linear), and parameters."""

    macs: int
    params: int
