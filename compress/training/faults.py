"""Turn interrupts, out-of-memory, device loss, dead workers and full disks into errors with a remedy.

The last checkpoint is never touched.
"""

from __future__ import annotations

import contextlib
import re
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

import torch

from compress.artifact import RunFolder
from compress.core.errors import CompressError, Exit
from compress.data.workers import worker_died
from compress.training.config import TrainConfig

_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|STATUS_ALLOC_FAILED", re.IGNORECASE
)
_DEVICE = re.compile(
    r"(CUDA|HIP|NCCL|cuDNN|CUDNN|cuBLAS|CUBLAS)[\w ]*error|CU(DNN|BLAS|SOLVER)_STATUS|CUDA driver"
)
_NAMED_ELSEWHERE = ("disk-full", "worker-died")
"""Errors that are raised where they happen; here the progress of the training is added."""

RESUMABLE = ("interrupted", "out-of-memory", "device-lost", *_NAMED_ELSEWHERE)
"""Codes of the errors after which a training can be resumed."""


@dataclass
class Saved:
    """Progress of a training on disk.

    Attributes:
        epochs: epochs of the whole training.
        finished: epochs that the last checkpoint contains.
    """

    epochs: int
    finished: int = 0


@contextlib.contextmanager
def explain_failures(run: RunFolder, saved: Saved, config: TrainConfig) -> Iterator[None]:
    """Turn such a failure of the block into an error that says what is saved.

    Raises:
        CompressError: (exit 3) ``out-of-memory``, ``device-lost``, ``worker-died``, ``disk-full``.
    """
    try:
        with with_resume_hint(run, saved):
            yield
    except (RuntimeError, MemoryError) as error:
        explained = explain_failure(error, config)
        if explained is None:
            raise
        raise _with_progress(explained, run, saved) from error


@contextlib.contextmanager
def with_resume_hint(run: RunFolder, saved: Saved) -> Iterator[None]:
    """Add to a full disk or a dead worker in the block how much is saved and how to resume."""
    try:
        yield
    except CompressError as error:
        if error.code not in _NAMED_ELSEWHERE:
            raise
        raise _with_progress(error, run, saved) from error


def explain_failure(error: Exception, config: TrainConfig) -> CompressError | None:
    """Return the error to show for an exception of torch in a training; None if it is something else."""
    text = " ".join(str(error).split())
    died = worker_died(error)
    if died is not None:
        return died
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or _MEMORY.search(text):
        return CompressError(
            f"out of memory at batch size {config.batch_size}, precision {config.precision}: "
            f"{_first_sentences(text)}",
            hint="free memory and resume with --resume; or start again with another --out and a smaller "
            "--batch-size (with --lr smaller by the same factor), or --precision bf16",
            code="out-of-memory",
            exit=Exit.MISSING,
            details={"batch_size": config.batch_size, "precision": config.precision},
        )
    if isinstance(error, torch.AcceleratorError) or _DEVICE.search(text):
        asserted = "device-side assert" in text
        return CompressError(
            f"the device failed: {_first_sentences(text)}",
            hint="an index was out of range on the device, such as a label: --device cpu shows which"
            if asserted
            else "check `nvidia-smi` and the kernel log, then resume with --resume, if need be on another "
            "--device",
            code="device-lost",
            exit=Exit.MISSING,
        )
    return None


def _with_progress(error: CompressError, run: RunFolder, saved: Saved) -> CompressError:
    hint = error.hint.partition(", then repeat the command")[0]
    if "--resume" not in hint:
        hint = f"{hint}, then resume with --resume"
    return CompressError(
        f"{error.message}; {saved.finished} of {saved.epochs} epochs are saved in {str(run.path)!r}",
        hint=hint,
        code=error.code,
        exit=error.exit,
        details={**error.details, "finished": saved.finished, "epochs": saved.epochs},
    )


def _first_sentences(text: str) -> str:
    """Return the part of torch's message before its debugging advice."""
    for advice in ("CUDA kernel errors might", "Search for `cuda", "If reserved but", "Compile with"):
        text = text.partition(advice)[0]
    return text.strip().rstrip(".")[:300] or "no reason is given"


@contextlib.contextmanager
def interruptible(run: RunFolder, saved: Saved) -> Iterator[None]:
    """Turn an interrupt into an error; SIGTERM counts as one while the block runs.

    Raises:
        CompressError: ``interrupted`` (exit 130).
    """
    try:
        with _terminate_as_interrupt():
            yield
    except KeyboardInterrupt:
        raise CompressError(
            f"interrupted; {saved.finished} of {saved.epochs} epochs are saved in {str(run.path)!r}",
            hint="resume with the same command and --resume",
            code="interrupted",
            exit=Exit.INTERRUPTED,
            details={"finished": saved.finished, "epochs": saved.epochs},
        ) from None


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Make SIGTERM raise KeyboardInterrupt in the main thread, which alone may set signal handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
