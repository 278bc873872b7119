"""Batch norms whose statistics are those of all processes, for as long as a training lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.utils import parametrize

from compress.core.errors import CompressError

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def uses_sync_bn(setting: str, device: str, processes: int) -> bool:
    """Return whether batch norms are synchronized.

    Args:
        setting: ``auto``, ``on`` or ``off``.
        device: type of the device, such as ``cuda``.
        processes: number of processes that train.

    Raises:
        CompressError: (exit 2) ``sync-bn``: `on` without a GPU: `nn.SyncBatchNorm` refuses tensors on a CPU.
    """
    if setting == "on" and device != "cuda":
        raise CompressError(
            f"--sync-bn on needs CUDA devices, this training runs on {device!r}",
            hint="use --sync-bn auto, which synchronizes where several GPUs train",
            code="sync-bn",
        )
    return setting != "off" and device == "cuda" and processes > 1


@contextmanager
def synchronized_norms(model: nn.Module, active: bool) -> Iterator[None]:
    """Turn the batch norms of `model` into `nn.SyncBatchNorm` inside the block, in place.

    Not `nn.SyncBatchNorm.convert_sync_batchnorm`: it replaces the modules, which drops their hooks and fails
    on parametrized ones (channel gates). Here only the class of each module changes, and changes back.
    """
    classes = {m: type(m) for m in model.modules() if active and _is_batch_norm(m)}
    for module, original in classes.items():
        module.__class__ = _synchronized(original)
        module.process_group = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for module, original in classes.items():
            module.__class__ = original
            del module.process_group


def _is_batch_norm(module: nn.Module) -> bool:
    return parametrize.type_before_parametrizations(module) in _BATCH_NORMS


def _synchronized(original: type[nn.Module]) -> type[nn.Module]:
    """Return `nn.SyncBatchNorm`, or for a parametrized class one with the same parametrized properties."""
    if original in _BATCH_NORMS:
        return nn.SyncBatchNorm
    own = {key: value for key, value in vars(original).items() if key not in ("__dict__", "__weakref__")}
    return type(original.__name__, (nn.SyncBatchNorm,), own)
