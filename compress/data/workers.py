"""Worker processes that decode images ahead of the training and are kept from one epoch to the next."""

from __future__ import annotations

import os
import re
import signal
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from compress.core.errors import CompressError, Exit

PREFETCH = 4
"""Batches that each process decodes ahead."""

_PID = re.compile(r"pid\(?s?\)?:? \(?([\d, ]+)")


class Workers:
    """Worker processes for one data set; they start with the first batch and end with this object.

    Args:
        samples: the data set; a batch is a list of its keys.
        count: number of processes; 0: decode in this process.
        collate: makes a batch of samples.
        pin: put batches into page-locked memory, so that the host does not wait for copies to a GPU.
    """

    def __init__(
        self, samples: Dataset[Any], count: int, collate: Callable[[list[Any]], Any], *, pin: bool
    ) -> None:
        self._samples = samples
        self._count = count
        self._collate = collate
        self._pin = pin
        self._kept: list[tuple[_Keys, DataLoader[Any]]] = []  # empty or one loader
        self._busy = False
        weakref.finalize(self, _stop_kept, self._kept, os.getpid())

    def batches(self, keys: Sequence[Any]) -> Iterator[Any]:
        """Yield one batch for each of `keys`, in order.

        Raises:
            CompressError: (exit 3) ``worker-died``.
        """
        if self._busy or not self._count:  # kept processes serve one iteration at a time
            yield from self._guarded(self._loader(_Keys(keys), 0))
            return
        if not self._kept:
            new_keys = _Keys(keys)
            self._kept.append((new_keys, self._loader(new_keys, self._count)))
        current, loader = self._kept[0]
        current.keys = keys
        self._busy = True
        try:
            yield from self._guarded(loader)
        finally:
            self._busy = False

    def _loader(self, keys: _Keys, count: int) -> DataLoader[Any]:
        return DataLoader(
            self._samples,
            batch_sampler=keys,
            collate_fn=self._collate,
            num_workers=count,
            persistent_workers=count > 0,
            prefetch_factor=PREFETCH if count else None,
            pin_memory=self._pin,
            generator=torch.Generator().manual_seed(0),  # otherwise it draws from the global generator
        )

    def _guarded(self, loader: DataLoader[Any]) -> Iterator[Any]:
        try:
            yield from _start(loader)
        except (RuntimeError, OSError, EOFError) as error:
            died = _dead_worker_error(loader)
            if died is None:
                raise
            self._kept.clear()
            _stop(loader)
            raise died from error


def _start(loader: DataLoader[Any]) -> Iterator[Any]:
    """Start the processes without the SIGCHLD handler that torch installs with its first loader.

    That handler raises an error at any point of the program when a child process ends after a worker has
    died. It is not needed: a loader checks for dead workers itself while it waits for a batch.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        return iter(loader)
    before = signal.getsignal(signal.SIGCHLD)
    try:
        return iter(loader)
    finally:
        if before is not None:  # None: the handler was not installed from Python
            signal.signal(signal.SIGCHLD, before)


def _dead_worker_error(loader: DataLoader[Any]) -> CompressError | None:
    """Return the error for worker processes of `loader` that have ended; None if all are alive.

    A worker that dies while it sends a batch breaks the connection before it is reported as dead.
    """
    workers: list[BaseProcess] = list(getattr(loader._iterator, "_workers", ()))
    if not workers:
        return None
    ending = wait([worker.sentinel for worker in workers], timeout=1)
    ended = [worker for worker in workers if worker.sentinel in ending]
    if not ended:
        return None
    for worker in ended:
        worker.join()  # its exit code is set a moment after its files are closed
    codes = {worker.exitcode or 0 for worker in ended}
    killed = sorted(-code for code in codes if code < 0)
    names = ", ".join(signal.Signals(number).name for number in killed)
    return _error(
        ", ".join(str(worker.pid) for worker in ended),
        f"was killed: {names}" if killed else "ended unexpectedly",
        shared=signal.SIGBUS in killed,
    )


def _stop(loader: DataLoader[Any]) -> None:
    """Stop the remaining processes of a loader of which one has died."""
    stop: Callable[[], None] | None = getattr(loader._iterator, "_shutdown_workers", None)
    if stop is not None:
        stop()


def _stop_kept(kept: list[tuple[_Keys, DataLoader[Any]]], pid: int) -> None:
    """Stop the kept processes when their `Workers` is deleted.

    A loader that is collected in a reference cycle loses its queues before it can stop its processes,
    and waits five seconds for each; this reference prevents that. A forked process has no workers to stop.
    """
    if os.getpid() == pid:
        for _, loader in kept:
            _stop(loader)


class _Keys:
    """Keys of every batch, which can be replaced; a loader reads them again in every iteration."""

    def __init__(self, keys: Sequence[Any]) -> None:
        self.keys = keys

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.keys)


def worker_died(error: BaseException) -> CompressError | None:
    """Return an error for a worker process that died if `error` reports one, else None.

    If a program uses other loaders, torch's SIGCHLD handler may be installed and can raise such an error
    anywhere, for example in a training step.
    """
    text = " ".join(str(error).split())
    if not isinstance(error, RuntimeError) or not text.startswith("DataLoader worker"):
        return None
    pids = _PID.search(text)
    name = re.search(r"killed by signal: (\w[\w ]*)", text)
    return _error(
        pids.group(1).strip() if pids else "",
        f"was killed: {name.group(1)}" if name else "ended unexpectedly",
        shared="shared memory" in text or "Bus error" in text,
    )


def _error(pids: str, how: str, *, shared: bool) -> CompressError:
    return CompressError(
        f"a process that decodes images{f' (process {pids})' if pids else ''} {how}",
        hint="its shared memory (/dev/shm) is full: make it larger, or use fewer --workers"
        if shared
        else "most often the machine ran out of memory: use fewer --workers or a smaller --batch-size",
        code="worker-died",
        exit=Exit.MISSING,
    )
