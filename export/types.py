"""Records and protocols that the parts of an export exchange.

`ExportInputs` (a network and its data) becomes an `OnnxSource` (ONNX files), from which a format writes its
files and describes them as `BuiltFile`. A `Predictor` runs a written file for the parity check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from compress.core.spec import ModelSpec, Preprocess
from compress.export.options import Options, Precision
from compress.export.trust.manifest import TensorRecord

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ExportInputs:
    """A network with everything needed to export it.

    Attributes:
        model: the network, in eval mode, on the CPU.
        spec: its name and shapes.
        preprocess: how an image becomes the input tensor.
        classes: names of the outputs, in order.
        run: name of the run folder; written into the file.
        images: float32 `[N, C, H, W]`, preprocessed test images for the checks during the build.
        calibration: returns float32 `[M, C, H, W]`, preprocessed training images for activation ranges.
        options: the user's options.
    """

    model: nn.Module
    spec: ModelSpec
    preprocess: Preprocess
    classes: tuple[str, ...]
    run: str
    images: NDArray[np.float32]
    calibration: Callable[[], NDArray[np.float32]]
    options: Options = field(default_factory=Options)


@dataclass(frozen=True)
class OnnxSource:
    """The ONNX file that a format starts from, and the float32 file it was reduced from.

    Attributes:
        path: the file in the requested precision.
        full: the file in float32; the same as `path` for fp32.
        precision: what the layers of `path` compute in.
        opset: its operator set.
        inputs, outputs: its tensors.
        details: for the manifest: simplification, layers kept in float32, calibration.
    """

    path: Path
    full: Path
    precision: Precision
    opset: int
    inputs: tuple[TensorRecord, ...]
    outputs: tuple[TensorRecord, ...]
    details: Mapping[str, Any]


@dataclass(frozen=True)
class BuiltFile:
    """A format's description of the files it wrote.

    Attributes:
        inputs, outputs: the tensors of the file.
        precision: what its layers compute in.
        opset: of the ONNX file; None for a format that has none.
        tools: versions of the packages that made it.
        details: for the manifest; the key ``build`` records how it was built.
        companions: names of further files that belong to it, in the same folder.
    """

    inputs: tuple[TensorRecord, ...]
    outputs: tuple[TensorRecord, ...]
    precision: str
    opset: int | None = None
    tools: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    companions: tuple[str, ...] = ()


class Predictor(Protocol):
    """A loaded file that turns images into logits."""

    @property
    def batch(self) -> int | None:
        """The fixed batch size of the file, or None for any."""

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 `[N, classes]` for float32 `[N, C, H, W]`, for any N."""


@dataclass(frozen=True)
class NotRun:
    """The reason why a file that was built cannot be run on this machine."""

    reason: str
