"""Device, processes and precision of a training, on top of Accelerate."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from compress.core.errors import CompressError, Exit
from compress.training.config import TrainConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

_WRAPPER_ATTRIBUTES = ("forward", "_original_forward", "_is_accelerate_prepared")


def resolve_device(config: TrainConfig) -> str:
    """Return ``cpu``, ``cuda`` or ``mps`` for the configured device and precision.

    Raises:
        CompressError: ``no-device`` if the device is missing, ``precision`` if it does not support the
            precision.
    """
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    device = config.device
    if device == "auto":
        device = "cuda" if present["cuda"] else "mps" if present["mps"] else "cpu"
    if not present[device]:
        raise CompressError(
            f"device {device!r} is not available to this torch {torch.__version__}",
            hint="use --device auto, or check the driver with `compress doctor`",
            code="no-device",
            exit=Exit.MISSING,
        )
    if config.precision == "fp16" and device != "cuda":
        raise CompressError(
            f"precision 'fp16' cannot be trained on device {device!r}",
            hint="use --precision bf16 or fp32",
            code="precision",
        )
    if config.precision == "bf16" and device == "cuda" and not torch.cuda.is_bf16_supported():
        raise CompressError(
            f"{torch.cuda.get_device_name()} does not support bf16",
            hint="use --precision fp16 or fp32",
            code="precision",
        )
    return device


@contextlib.contextmanager
def accelerated(config: TrainConfig) -> Iterator[Accelerator]:
    """Yield an Accelerator for the configuration; its global state is reset afterwards.

    Raises:
        CompressError: as `resolve_device`; ``batch-size`` if the batch cannot be shared evenly.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState

    device = resolve_device(config)
    mixed = "no" if config.precision == "fp32" else config.precision
    benchmark = torch.backends.cudnn.benchmark
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    creates_group = not _has_process_group()
    try:
        accelerator = Accelerator(mixed_precision=mixed, cpu=device == "cpu")
        torch.backends.cudnn.benchmark = True
        if config.batch_size % accelerator.num_processes:
            raise CompressError(
                f"batch size {config.batch_size} cannot be shared by {accelerator.num_processes} processes",
                hint="choose a multiple of the number of processes",
                code="batch-size",
            )
        yield accelerator
        accelerator.wait_for_everyone()
    finally:
        if creates_group and _has_process_group():
            # a process that ends while the group exists can abort the others
            torch.distributed.destroy_process_group()
        torch.backends.cudnn.benchmark = benchmark
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


def _has_process_group() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def prepare(accelerator: Accelerator, model: nn.Module, *, channels_last: bool) -> nn.Module:
    """Move `model` to the device and return the module that is called: itself, or its distributed wrapper.

    Accelerate replaces the forward of the model it prepares by a bound method, which a copy of the model
    would share with the original; that is undone here, and the loop opens the autocast region itself.
    """
    kept = {name: model.__dict__[name] for name in _WRAPPER_ATTRIBUTES if name in model.__dict__}
    if channels_last:
        model.to(memory_format=torch.channels_last)
    wrapped: nn.Module = accelerator.prepare_model(model)
    for name in _WRAPPER_ATTRIBUTES:
        model.__dict__.pop(name, None)
    model.__dict__.update(kept)
    return wrapped


def seed_everything(seed: int, epoch: int, rank: int | None = None) -> None:
    """Seed Python, NumPy and torch from (seed, epoch, rank), so that any epoch can be repeated."""
    words = [seed, epoch] if rank is None else [seed, epoch, rank + 1]
    value = int(np.random.SeedSequence(words).generate_state(1)[0])
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)


def share_from_first(accelerator: Accelerator, tensors: Iterable[Tensor]) -> None:
    """Broadcast the values of the first process to all others."""
    if accelerator.num_processes > 1:
        for tensor in tensors:
            data = tensor.detach()
            torch.distributed.broadcast(data.view(torch.uint8) if data.dtype == torch.bool else data, src=0)


def average_gradients(accelerator: Accelerator, parameters: Iterable[nn.Parameter]) -> None:
    """Average the gradients of parameters that are not in the distributed wrapper."""
    if accelerator.num_processes > 1:
        for parameter in parameters:
            if parameter.grad is not None:
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad.div_(accelerator.num_processes)


def sum_over_processes(accelerator: Accelerator, tensor: Tensor) -> Tensor:
    """Return the elementwise sum over all processes."""
    total: Tensor = accelerator.reduce(tensor, reduction="sum")
    return total
