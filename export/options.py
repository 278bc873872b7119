"""Options of an export: batch sizes, precision, and options that only some formats support."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from compress.core.errors import CompressError, did_you_mean

Precision = Literal["fp32", "fp16", "bf16", "int8"]
"""The number type that the layers of a file compute in; its inputs and outputs are always float32."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

BF16_OPSET = 22
"""First ONNX operator set whose convolution and pooling support bfloat16."""

CALIB_IMAGES = 256
"""Default number of training images that activation ranges are taken from."""


@dataclass(frozen=True)
class BatchRange:
    """The batch sizes that a file must accept, and the one it is optimized for: ``MIN:OPT:MAX``.

    Raises:
        CompressError: the numbers are not in order, or the smallest is under 1.
    """

    min: int
    opt: int
    max: int

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.opt <= self.max:
            raise CompressError(
                f"the batch range {self} is not in order",
                hint="give --batch MIN:OPT:MAX with 1 <= MIN <= OPT <= MAX, such as 1:8:32",
                code="bad-batch",
            )

    def __str__(self) -> str:
        return f"{self.min}:{self.opt}:{self.max}"

    def to_json(self) -> dict[str, int]:
        """Return a JSON object."""
        return {"min": self.min, "opt": self.opt, "max": self.max}


Batch = int | Literal["dynamic"] | BatchRange
"""A fixed batch size, any size, or a range with the size to optimize for."""

DEFAULT_RANGE = BatchRange(1, 8, 64)
"""The range of an engine with a dynamic batch."""


def parse_batch(text: str) -> Batch:
    """Parse ``dynamic``, ``N`` or ``MIN:OPT:MAX``.

    Raises:
        CompressError: the text is none of them (exit USAGE).
    """
    try:
        numbers = [int(part) for part in text.split(":")]
    except ValueError:
        numbers = []
    if len(numbers) == 3:
        return BatchRange(*numbers)
    return check_batch(numbers[0] if len(numbers) == 1 else text)


def check_batch(batch: Any) -> Batch:
    """Return `batch` if it is a valid `Batch`.

    Raises:
        CompressError: it is not (exit USAGE).
    """
    if batch == "dynamic" or isinstance(batch, BatchRange) or (isinstance(batch, int) and batch >= 1):
        checked: Batch = batch
        return checked
    if isinstance(batch, int):
        message, hint = (
            f"the batch size must be at least 1, not {batch}",
            "give --batch dynamic, or 1 or more",
        )
    else:
        message = f"{batch!r} is not a batch size"
        guess = did_you_mean(str(batch), ["dynamic"])
        hint = f"{guess} give --batch dynamic, a number, or MIN:OPT:MAX".strip()
    raise CompressError(message, hint=hint, code="bad-batch")


def batch_range(batch: Batch) -> BatchRange:
    """Return the batch sizes to build an engine for; `DEFAULT_RANGE` for a dynamic batch."""
    if isinstance(batch, int):
        return BatchRange(batch, batch, batch)
    return batch if isinstance(batch, BatchRange) else DEFAULT_RANGE


def parse_targets(text: str | None) -> tuple[int, ...]:
    """Parse compute capabilities such as ``86,89``.

    Raises:
        CompressError: a part is not a number (exit USAGE).
    """
    parts = [part.strip().lower().removeprefix("sm").lstrip("_") for part in (text or "").split(",")]
    parts = [part.replace(".", "") for part in parts if part]
    invalid = next((part for part in parts if not part.isdecimal()), None)
    if invalid is not None:
        raise CompressError(
            f"{invalid!r} is not a compute capability",
            hint="give --target-sm as numbers, such as 86,89",
            code="target-sm",
        )
    return tuple(dict.fromkeys(int(part) for part in parts))


@dataclass(frozen=True)
class Options:
    """Options of one exported file; a format refuses those it does not support.

    Attributes:
        opset: ONNX operator set; None for the exporter's default.
        batch: see `Batch`.
        simplify: run onnxsim; its result is kept only if it is smaller and computes the same.
        precision: number type of the layers.
        target_sm: GPU compute capabilities to compile an engine for, such as 86 and 89.
        timing_cache: file in which TensorRT stores its measurements for the next build.
        workspace_mb: scratch memory in MiB that a layer may use; None for the builder's default.
        hardware_compat: build an engine that also runs on other GPUs.
        version_compat: build an engine that also runs in later versions of the runtime.
        calib_images: number of training images that activation ranges are taken from.
        quantize_ends: quantize the first and the last layer to INT8 too.
    """

    opset: int | None = None
    batch: Batch = "dynamic"
    simplify: bool = False
    precision: Precision = "fp32"
    target_sm: tuple[int, ...] = ()
    timing_cache: Path | None = None
    workspace_mb: int | None = None
    hardware_compat: bool = False
    version_compat: bool = False
    calib_images: int = CALIB_IMAGES
    quantize_ends: bool = False

    def non_default(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, by name."""
        pairs = ((field, getattr(self, field.name)) for field in fields(self))
        return {field.name: value for field, value in pairs if value != field.default}


def check_options(options: Options) -> None:
    """Refuse values that are invalid for every format.

    Raises:
        CompressError: naming the value (exit USAGE).
    """
    check_batch(options.batch)
    check_precision(options.precision)
    if options.precision != "fp32" and options.calib_images < 1:
        raise CompressError(
            f"the calibration set is empty: --calib-images is {options.calib_images}",
            hint="give --calib-images 1 or more; the default is 256",
            code="no-calibration",
        )
    if options.precision == "bf16" and options.opset is not None and options.opset < BF16_OPSET:
        raise CompressError(
            f"opset {options.opset} has no bfloat16 convolution, which --precision bf16 needs",
            hint=f"leave --opset out, or give --opset {BF16_OPSET}",
            code="opset",
        )
    if options.quantize_ends and options.precision != "int8":
        raise CompressError(
            f"--quantize-ends has no effect with --precision {options.precision}",
            hint="leave it out, or export with --precision int8",
            code="option",
        )
    if options.workspace_mb is not None and options.workspace_mb < 1:
        raise CompressError(
            f"the workspace must be at least 1 MiB, not {options.workspace_mb}",
            hint="give --workspace 1 or more",
            code="workspace",
        )


def check_precision(precision: Any) -> Precision:
    """Return `precision` if it is one.

    Raises:
        CompressError: it is not (``unknown-precision``, exit USAGE).
    """
    if precision not in PRECISIONS:
        guess = did_you_mean(str(precision), PRECISIONS)
        raise CompressError(
            f"unknown precision {precision!r}",
            hint=f"{guess} give one of {', '.join(PRECISIONS)}".strip(),
            code="unknown-precision",
        )
    checked: Precision = precision
    return checked
