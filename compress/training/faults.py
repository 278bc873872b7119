"""What can stop a long training and is no bug: memory, the device, a helper process, the disk.

Each is named with what is saved and how to go on; the last checkpoint is never touched.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import torch

from compress.artifact import RunFolder
from compress.core.errors import CompressError, Exit
from compress.data.workers import worker_died
from compress.training.config import TrainConfig
from compress.training.interrupt import Saved

_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|STATUS_ALLOC_FAILED", re.IGNORECASE
)
_DEVICE = re.compile(
    r"(CUDA|HIP|NCCL|cuDNN|CUDNN|cuBLAS|CUBLAS)[\w ]*error|CU(DNN|BLAS|SOLVER)_STATUS|CUDA driver"
)
_RESUMED = ("disk-full", "worker-died")
"""Errors that are named where they happen, and here told how far the training is."""


@contextlib.contextmanager
def named_faults(run: RunFolder, saved: Saved, config: TrainConfig) -> Iterator[None]:
    """Turn such a failure of the block into an error that says what is saved.

    Raises:
        CompressError: (exit 3) ``out-of-memory``, ``device-lost``, ``worker-died``, ``disk-full``.
    """
    try:
        yield
    except CompressError as error:
        if error.code not in _RESUMED:
            raise
        raise _with_progress(error, run, saved) from error
    except (RuntimeError, MemoryError) as error:
        found = fault(error, config)
        if found is None:
            raise
        raise _with_progress(found, run, saved) from error


def fault(error: Exception, config: TrainConfig) -> CompressError | None:
    """Return the error to show for what torch raised in a training; None if it is something else."""
    text = " ".join(str(error).split())
    died = worker_died(error)
    if died is not None:
        return died
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or _MEMORY.search(text):
        return CompressError(
            f"out of memory at batch size {config.batch_size}, precision {config.precision}: "
            f"{_first_sentences(text)}",
            hint="free memory and go on with --resume; or start anew with another --out and a smaller "
            "--batch-size (with --lr smaller by the same factor), or --precision bf16",
            code="out-of-memory",
            exit=Exit.MISSING,
            details={"batch_size": config.batch_size, "precision": config.precision},
        )
    if isinstance(error, torch.AcceleratorError) or _DEVICE.search(text):
        asserted = "device-side assert" in text
        return CompressError(
            f"the device failed: {_first_sentences(text)}",
            hint="an index was out of range there, such as a label: --device cpu names it"
            if asserted
            else "see what `nvidia-smi` and the kernel's log say of it, then go on with --resume; --device "
            "may be another one",
            code="device-lost",
            exit=Exit.MISSING,
        )
    return None


def _with_progress(error: CompressError, run: RunFolder, saved: Saved) -> CompressError:
    hint = error.hint.removesuffix(" and run the command again")
    resume = "" if "--resume" in hint else ", then go on with --resume"
    return CompressError(
        f"{error.message}; {saved.finished} of {saved.epochs} epochs are saved in {str(run.path)!r}",
        hint=f"{hint}{resume}",
        code=error.code,
        exit=error.exit,
        details={**error.details, "finished": saved.finished, "epochs": saved.epochs},
    )


def _first_sentences(text: str) -> str:
    """What torch says before it begins to advise; its advice is about its own debugging."""
    for advice in ("CUDA kernel errors might", "Search for `cuda", "If reserved but", "Compile with"):
        text = text.partition(advice)[0]
    return text.strip().rstrip(".")[:300] or "no reason is given"
