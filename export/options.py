"""What a user may choose about an export: batch sizes, precision, and what only some formats honour."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from compress.core.errors import CompressError, did_you_mean

Precision = Literal["fp32", "fp16", "bf16", "int8"]
"""What the layers of a file compute in; its inputs and outputs are always float32."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

BF16_OPSET = 22
"""First ONNX operator set whose convolution and pooling know bfloat16."""

CALIB_IMAGES = 256
"""Training images that activation ranges are taken from by default."""


@dataclass(frozen=True)
class BatchRange:
    """The batch sizes an engine must take, and the one it is tuned for: ``MIN:OPT:MAX``.

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
        """A JSON object."""
        return {"min": self.min, "opt": self.opt, "max": self.max}


Batch = int | Literal["dynamic"] | BatchRange
"""A fixed batch size, any, or a range with the size that matters most."""

DEFAULT_RANGE = BatchRange(1, 8, 64)
"""The range of an engine whose batch is left dynamic."""


def parse_batch(text: str) -> Batch:
    """Return the batch that ``dynamic``, ``N`` or ``MIN:OPT:MAX`` means.

    Raises:
        CompressError: it means none (exit USAGE).
    """
    words = text.split(":")
    try:
        numbers = [int(word) for word in words]
    except ValueError:
        numbers = []
    if len(numbers) == 3:
        return BatchRange(*numbers)
    return check_batch(numbers[0] if len(numbers) == 1 else text)


def check_batch(batch: Any) -> Batch:
    """Return `batch` if it is one (see `Batch`).

    Raises:
        CompressError: it is not (exit USAGE).
    """
    if batch == "dynamic" or isinstance(batch, BatchRange) or (isinstance(batch, int) and batch >= 1):
        checked: Batch = batch
        return checked
    if isinstance(batch, int):
        what, hint = f"a batch size of {batch} is not possible", "give --batch dynamic or a number from 1"
    else:
        guess = did_you_mean(str(batch), ["dynamic"])
        what = f"{batch!r} is no batch size"
        hint = f"{guess} give --batch dynamic, a number, or MIN:OPT:MAX".strip()
    raise CompressError(what, hint=hint, code="bad-batch")


def batch_range(batch: Batch) -> BatchRange:
    """Return the sizes an engine is built for: those given, the fixed one, or `DEFAULT_RANGE`."""
    if isinstance(batch, int):
        return BatchRange(batch, batch, batch)
    return batch if isinstance(batch, BatchRange) else DEFAULT_RANGE


def parse_targets(text: str | None) -> tuple[int, ...]:
    """Return the compute capabilities of ``86,89``.

    Raises:
        CompressError: a part is no number (exit USAGE).
    """
    parts = [part.strip().lower().removeprefix("sm").lstrip("_") for part in (text or "").split(",")]
    parts = [part.replace(".", "") for part in parts if part]
    wrong = next((part for part in parts if not part.isdecimal()), None)
    if wrong is not None:
        raise CompressError(
            f"{wrong!r} is no compute capability",
            hint="give --target-sm as numbers, such as 86,89",
            code="target-sm",
        )
    return tuple(dict.fromkeys(int(part) for part in parts))


@dataclass(frozen=True)
class Options:
    """What the user may choose about an export; a format refuses what it cannot honour.

    Attributes:
        opset: ONNX operator set; None takes the exporter's default.
        batch: see `Batch`.
        simplify: try onnxsim; its result is kept only if smaller and equal.
        precision: what the layers compute in.
        target_sm: GPU compute capabilities an engine is compiled for, such as 86 and 89.
        timing_cache: file in which TensorRT keeps its measurements for the next build.
        workspace_mb: scratch memory in MiB a layer may use; None leaves the builder's default.
        hardware_compat: the engine runs on other GPUs than the one it was built on.
        version_compat: the engine runs in other versions of the runtime.
        calib_images: training images that activation ranges are taken from.
        quantize_ends: INT8 for the first and the last layer too.
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

    def given(self) -> dict[str, Any]:
        """The options that are not at their defaults, by name."""
        pairs = ((field, getattr(self, field.name)) for field in fields(self))
        return {field.name: value for field, value in pairs if value != field.default}


def check_options(options: Options) -> None:
    """Refuse values that no format could honour.

    Raises:
        CompressError: naming the value (exit USAGE).
    """
    check_batch(options.batch)
    if options.precision not in PRECISIONS:
        raise CompressError(
            f"there is no precision {options.precision!r}",
            hint=f"{did_you_mean(str(options.precision), PRECISIONS)} "
            f"give one of {', '.join(PRECISIONS)}".strip(),
            code="unknown-precision",
        )
    if options.precision != "fp32" and options.calib_images < 1:
        raise CompressError(
            f"the calibration set is empty: {options.calib_images} images were asked for",
            hint="give --calib-images from 1; 256 are usual",
            code="no-calibration",
        )
    if options.precision == "bf16" and options.opset is not None and options.opset < BF16_OPSET:
        raise CompressError(
            f"opset {options.opset} has no bfloat16 convolution",
            hint=f"leave --opset out, or give --opset {BF16_OPSET}",
            code="opset",
        )
    if options.quantize_ends and options.precision != "int8":
        raise CompressError(
            f"--quantize-ends means nothing for {options.precision}",
            hint="leave it out, or export with --precision int8",
            code="option",
        )
    if options.workspace_mb is not None and options.workspace_mb < 1:
        raise CompressError(
            f"a workspace of {options.workspace_mb} MiB is not possible",
            hint="give --workspace from 1",
            code="workspace",
        )
