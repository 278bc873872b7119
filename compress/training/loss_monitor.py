"""Monitor the loss of an epoch without making the host wait for the device."""

from __future__ import annotations

import torch
from torch import Tensor

from compress.core.errors import CompressError, Exit

READ_EVERY = 50
"""Steps between two readings of the loss where the device computes asynchronously."""


class LossMonitor:
    """Adds up loss and hits on the device and detects the first step whose loss is not finite.

    On a CPU the loss is read at every step. On a GPU it is copied to the host asynchronously while the steps
    continue, and read once it has arrived: no step waits. On other devices every 50th step waits.

    Args:
        device: device of the losses.
        epoch: the epoch, from 1, for the message.
        every: steps between two readings; None: chosen by the device.
    """

    def __init__(self, device: torch.device, epoch: int, every: int | None = None) -> None:
        wide = torch.float32 if device.type == "mps" else torch.float64
        self._every = every or (1 if device.type == "cpu" else READ_EVERY)
        self._epoch = epoch
        self._first_bad = torch.full((), -1, dtype=torch.int64, device=device)
        self.sums = torch.zeros(2, dtype=wide, device=device)
        self._transfer = _HostTransfer() if device.type == "cuda" else None

    @torch.no_grad()
    def add(self, step: int, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Add step `step` (from 1): its loss, and the hits of scores `[B, classes]` at labels `[B]`."""
        loss = loss.detach()
        hits = (logits.detach().argmax(1) == targets).sum()
        self.sums += torch.stack([loss.to(self.sums.dtype) * targets.shape[0], hits.to(self.sums.dtype)])
        is_first = ~torch.isfinite(loss) & (self._first_bad < 0)
        self._first_bad = torch.where(is_first, step, self._first_bad)

    def read(self, step: int, loss: Tensor, lr: float) -> float | None:
        """Read the loss if it is due; return one if available: this step's, on a GPU an earlier one's.

        Raises:
            CompressError: ``non-finite``, naming epoch, step and learning rate.
        """
        due = step % self._every == 0
        if self._transfer is None:
            if not due:
                return None
            self.check(lr)
            return float(loss.item())
        values = self._transfer.take()
        if due:
            self._transfer.send(torch.stack([self._first_bad.to(loss.dtype), loss.detach()]))
        if values is None:
            return None
        self._raise(int(values[0]), lr)
        return values[1]

    def check(self, lr: float) -> None:
        """Read the loss and wait for it.

        Raises:
            CompressError: ``non-finite``.
        """
        self._raise(int(self._first_bad.item()), lr)

    def _raise(self, step: int, lr: float) -> None:
        if step >= 0:
            raise non_finite(f"the loss is not finite at epoch {self._epoch}, step {step}", lr)


class _HostTransfer:
    """Asynchronous transfer of two numbers from a GPU to the host."""

    def __init__(self) -> None:
        self._box = torch.zeros(2, pin_memory=True)
        self._sent: torch.cuda.Event | None = None

    def send(self, numbers: Tensor) -> None:
        if self._sent is None:
            self._box.copy_(numbers, non_blocking=True)
            self._sent = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._sent.record()

    def take(self) -> tuple[float, float] | None:
        if self._sent is None or not self._sent.query():  # type: ignore[no-untyped-call]
            return None
        self._sent = None
        first, second = self._box.tolist()
        return first, second


def non_finite(what: str, lr: float) -> CompressError:
    """Return the error for a training that has diverged."""
    return CompressError(
        f"{what} (learning rate {lr:.4g}); the last good checkpoint is kept",
        hint="use a lower --lr, a warm-up, or a limit on the gradients (clip_grad)",
        code="non-finite",
        exit=Exit.INTERNAL,
    )
