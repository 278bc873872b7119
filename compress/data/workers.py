"""Processes that decode images ahead of the training, kept from one epoch to the next."""

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
"""Batches a process decodes ahead."""

_PID = re.compile(r"pid\(?s?\)?:? \(?([\d, ]+)")


class Workers:
    """Worker processes over one data set; they start with the first batch and end with this object.

    Args:
        samples: the data set; its keys are what a batch lists.
        count: processes; 0: decode in this one.
        collate: makes a batch of samples.
        pin: put batches into page-locked memory, from which a GPU copies without making the host wait.
    """

    def __init__(
        self, samples: Dataset[Any], count: int, collate: Callable[[list[Any]], Any], *, pin: bool
    ) -> None:
        self._samples = samples
        self._count = count
        self._collate = collate
        self._pin = pin
        self._kept: list[tuple[_Keys, DataLoader[Any]]] = []  # none or one
        self._busy = False
        weakref.finalize(self, _end_kept, self._kept, os.getpid())

    def batches(self, keys: Sequence[Any]) -> Iterator[Any]:
        """Yield a batch for each of `keys`, in their order.

        Raises:
            CompressError: (exit 3) ``worker-died``.
        """
        if self._busy or not self._count:  # the kept processes serve one iteration at a time
            yield from self._guarded(self._loader(_Keys(keys), 0))
            return
        if not self._kept:
            fresh = _Keys(keys)
            self._kept.append((fresh, self._loader(fresh, self._count)))
        mine, loader = self._kept[0]
        mine.keys = keys
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
            generator=torch.Generator().manual_seed(0),  # else it would draw from the global one
        )

    def _guarded(self, loader: DataLoader[Any]) -> Iterator[Any]:
        try:
            yield from _started(loader)
        except (RuntimeError, OSError, EOFError) as error:
            died = _died(loader)
            if died is None:
                raise
            self._kept.clear()
            _end(loader)
            raise died from error


def _started(loader: DataLoader[Any]) -> Iterator[Any]:
    """Start the processes without the handler of SIGCHLD that torch sets with its first loader.

    It raises that a worker was killed whenever a child of this process ends while a dead worker is known,
    wherever the program then is. A loader also looks for dead workers itself, while it waits for a batch.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        return iter(loader)
    before = signal.getsignal(signal.SIGCHLD)
    try:
        return iter(loader)
    finally:
        if before is not None:  # else it was set outside of Python, and torch has called none either
            signal.signal(signal.SIGCHLD, before)


def _died(loader: DataLoader[Any]) -> CompressError | None:
    """Return the error for the processes of `loader` that have ended; None if all are alive.

    One that dies while it hands over a batch breaks the connection first, and is known to be dead after.
    """
    workers: list[BaseProcess] = list(getattr(loader._iterator, "_workers", ()))
    if not workers:
        return None
    ending = wait([worker.sentinel for worker in workers], timeout=1)
    ended = [worker for worker in workers if worker.sentinel in ending]
    if not ended:
        return None
    for worker in ended:
        worker.join()  # its files are closed a moment before its exit code is there
    codes = {worker.exitcode or 0 for worker in ended}
    killed = sorted(-code for code in codes if code < 0)
    names = ", ".join(signal.Signals(number).name for number in killed)
    return _error(
        ", ".join(str(worker.pid) for worker in ended),
        f"was killed: {names}" if killed else "ended unexpectedly",
        shared=signal.SIGBUS in killed,
    )


def _end(loader: DataLoader[Any]) -> None:
    """End the processes that are left of a loader of which one has died; the error's traceback keeps it."""
    end: Callable[[], None] | None = getattr(loader._iterator, "_shutdown_workers", None)
    if end is not None:
        end()


def _end_kept(kept: list[tuple[_Keys, DataLoader[Any]]], pid: int) -> None:
    """End the kept processes when their `Workers` is gone, however that came about.

    A loader that became garbage in a cycle would lose its queues before it can tell the processes to end, and
    wait five seconds for each; this one is referred to from outside until then. A fork has none to end.
    """
    if os.getpid() == pid:
        for _, loader in kept:
            _end(loader)


class _Keys:
    """The keys of every batch; a loader whose processes are kept reads them anew for every iteration."""

    def __init__(self, keys: Sequence[Any]) -> None:
        self.keys = keys

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.keys)


def worker_died(error: BaseException) -> CompressError | None:
    """Return the error for a worker process that ended by itself; None if `error` says something else.

    A program that uses loaders of its own may have torch's handler of SIGCHLD set, which says so anywhere: it
    can come out of a training step.
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
