"""Measure the steps, the evaluation, the checkpoint and the memory of a training for about a minute.

The steps are those of the training loop on the real data and device. Their times are kept as blocks, so that
their spread is known too.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import torch
from torch import nn

from compress.artifact import RunFolder
from compress.data.base import Batch
from compress.training.checkpoint import checkpoint_path, save_checkpoint
from compress.training.config import TrainConfig
from compress.training.device import accelerated, share_from_first, sum_over_processes
from compress.training.evaluation import evaluate
from compress.training.faults import Saved, explain_failure
from compress.training.loop import TrainingLoop
from compress.training.method import TrainableMethod
from compress.training.progress import NoProgress
from compress.training.steps import train_epoch

if TYPE_CHECKING:
    from accelerate import Accelerator

    from compress.data import ImageData

WARM_UP_SHARE = 0.25
"""Share of the seconds for warm-up of allocators, autotuners and worker processes."""

WARM_UP_STEPS = 2
"""Minimum number of warm-up steps."""

BLOCK_SHARE = 0.05
"""Share of the seconds in one block of steps, whose times are averaged."""

MIN_BLOCKS = 3
"""Minimum number of blocks, however long they take."""

EVALUATION_SHARE = 0.1
"""Share of the seconds spent on the evaluation."""

_AGREE_EVERY = 5
"""Steps between two decisions of several processes whether to continue."""


@dataclass(frozen=True)
class PhaseTime:
    """A phase of epochs with constant step time.

    Attributes:
        first: its first epoch, from 0.
        epochs: its number of epochs.
        begin_s: seconds of the method's hook before an epoch.
        first_s: seconds from there to the first batch of the epoch.
        end_s: seconds of the method's hook after an epoch.
        step_s: seconds of a step, median of the blocks.
        low_s: 10th percentile of the blocks.
        high_s: 90th percentile of the blocks.
        waiting: share of the time in which a step waited for its images.
        steps: measured steps.
        blocks: measured blocks.
        warm_up_steps: steps before them.
    """

    first: int
    epochs: int
    begin_s: float
    first_s: float
    end_s: float
    step_s: float
    low_s: float
    high_s: float
    waiting: float
    steps: int
    blocks: int
    warm_up_steps: int


@dataclass(frozen=True)
class TrainingMeasurement:
    """Measured times and memory of a training.

    Attributes:
        phases: in the order of their epochs.
        steps_per_epoch: optimizer steps in an epoch.
        evaluation_s: seconds to evaluate all test images.
        evaluated: share of the test images that was measured.
        checkpoint_s: seconds to write a checkpoint that is also the best one.
        checkpoint_bytes: size of one checkpoint file.
        device: name of the device.
        device_bytes: peak memory that torch held on the device; None on a CPU.
        device_total: memory of the device; None on a CPU.
        host_bytes: peak memory of this process.
        workers_bytes: memory of its worker processes.
        processes: number of processes; the memory is that of the first one.
    """

    phases: tuple[PhaseTime, ...]
    steps_per_epoch: int
    evaluation_s: float
    evaluated: float
    checkpoint_s: float
    checkpoint_bytes: int
    device: str
    device_bytes: int | None
    device_total: int | None
    host_bytes: int
    workers_bytes: int
    processes: int


@dataclass
class _Clock:
    """Hands out batches until its time is over, and notes how long blocks of steps take.

    Args:
        seconds: for everything, the warm-up included.
        wait: waits for the device.
        agree: whether all processes have time for more, given whether this one has.
        agree_every: steps between two such questions.
    """

    seconds: float
    wait: Callable[[], None]
    agree: Callable[[bool], bool]
    agree_every: int
    began: float = field(default_factory=time.perf_counter)
    steps: int = 0
    warm_up_steps: int = 0
    firsts: list[float] = field(default_factory=list)
    blocks: list[tuple[int, float, float]] = field(default_factory=list)
    over: bool = False

    def epoch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches of an epoch, or the first of them.

        The wait for its first batch is noted apart: it comes once an epoch. A block is steps, their seconds,
        and the seconds of these in which a step waited for its batch.
        """
        requested = time.perf_counter()
        source = iter(batches)
        batch = next(source, None)
        start = time.perf_counter()
        self.firsts.append(start - requested)
        steps, waited = 0, 0.0
        while batch is not None and not self.over:
            yield batch
            self.steps += 1
            steps += 1
            requested = time.perf_counter()
            batch = next(source, None)
            now = time.perf_counter()
            waited += now - requested
            if not self._warm(now):
                self.warm_up_steps, start, steps, waited = self.steps, now, 0, 0.0
            elif now - start >= BLOCK_SHARE * self.seconds or batch is None:
                self.wait()
                now = time.perf_counter()
                self.blocks.append((steps, now - start, waited))
                start, steps, waited = now, 0, 0.0
            if self.steps % self.agree_every == 0:
                enough = now - self.began >= self.seconds and len(self.blocks) >= MIN_BLOCKS
                self.over = not self.agree(not enough)

    def _warm(self, now: float) -> bool:
        if self.blocks:
            return True
        ready = self.steps > WARM_UP_STEPS and now - self.began >= WARM_UP_SHARE * self.seconds
        if not ready:
            self.wait()  # the first block must begin with an idle device
        return ready


def measure_training(
    model: nn.Module,
    method: TrainableMethod,
    data: ImageData,
    config: TrainConfig,
    run: RunFolder,
    *,
    phases: Sequence[int] = (0,),
    seconds: float = 60.0,
) -> TrainingMeasurement:
    """Train `model` in place for about `seconds` and return what everything took.

    Args:
        model: as for `fit`.
        method: as for `fit`.
        data: as for `fit`.
        config: as for `fit`.
        run: a temporary run folder; one checkpoint is written to it.
        phases: first epochs of the phases with constant step time; each gets its share of the seconds.
        seconds: for the steps; at least five steps of each phase are run.

    Raises:
        CompressError: as `fit`.
    """
    try:
        with accelerated(config) as accelerator:
            loop = TrainingLoop(
                model, method, data, config, run, accelerator, Saved(config.epochs), NoProgress()
            )
            return _measure_loop(loop, phases, seconds)
    except (RuntimeError, MemoryError) as error:
        explained = explain_failure(error, config)
        if explained is None:
            raise
        if explained.code == "out-of-memory":
            explained.hint = "use a smaller --batch-size, or --precision bf16"
        raise explained from error


def _measure_loop(loop: TrainingLoop, phases: Sequence[int], seconds: float) -> TrainingMeasurement:
    accelerator, config = loop.accelerator, loop.config
    device, is_cuda = accelerator.device, accelerator.device.type == "cuda"
    if is_cuda:
        torch.cuda.reset_peak_memory_stats(device)
    ends = [*phases[1:], config.epochs]
    times = tuple(
        _phase(loop, first, end - first, seconds / len(phases))
        for first, end in zip(phases, ends, strict=True)
    )
    workers = _workers_bytes()
    evaluation_s, evaluated = _evaluation(loop, EVALUATION_SHARE * seconds)
    checkpoint_s, size = _checkpoint(loop)
    return TrainingMeasurement(
        phases=times,
        steps_per_epoch=loop.steps,
        evaluation_s=evaluation_s,
        evaluated=evaluated,
        checkpoint_s=checkpoint_s,
        checkpoint_bytes=size,
        device=torch.cuda.get_device_name(device) if is_cuda else device.type,
        device_bytes=torch.cuda.max_memory_reserved(device) if is_cuda else None,
        device_total=torch.cuda.get_device_properties(device).total_memory if is_cuda else None,
        host_bytes=_peak_bytes(),
        workers_bytes=max(workers, _workers_bytes()),
        processes=accelerator.num_processes,
    )


def _phase(loop: TrainingLoop, first: int, epochs: int, seconds: float) -> PhaseTime:
    """Run epochs of a phase, or the beginning of one, until its time is over."""
    state, config, accelerator = loop.state, loop.config, loop.accelerator
    several = accelerator.num_processes > 1

    def agree(more: bool) -> bool:
        if not several:
            return more
        votes = torch.tensor([float(more)], device=accelerator.device)
        return bool(sum_over_processes(accelerator, votes).item() == accelerator.num_processes)

    clock = _Clock(seconds, lambda: _wait(accelerator), agree, _AGREE_EVERY if several else 1)
    begins, ends, epoch = [], [], first
    while not clock.over:
        state.epoch = epoch
        started = time.perf_counter()
        loop.begin_epoch()
        _wait(accelerator)
        begins.append(time.perf_counter() - started)
        train_epoch(loop.stepper, loop.wrapped, clock.epoch(loop.train_batches(epoch)), NoProgress())
        started = time.perf_counter()
        share_from_first(accelerator, state.model.buffers())
        state.method.end_epoch(state.model, epoch, config.epochs)
        _wait(accelerator)
        ends.append(time.perf_counter() - started)
        epoch = min(epoch + 1, first + epochs - 1)
    counts, spans, waits = (np.array(column) for column in zip(*clock.blocks, strict=True))
    low, middle, high = np.percentile(spans / counts, [10, 50, 90]).tolist()
    return PhaseTime(
        first=first,
        epochs=epochs,
        begin_s=float(np.median(begins)),
        first_s=float(np.median(clock.firsts)),
        end_s=float(np.median(ends)),
        step_s=middle,
        low_s=low,
        high_s=high,
        waiting=float(waits.sum() / spans.sum()),
        steps=int(counts.sum()),
        blocks=len(counts),
        warm_up_steps=clock.warm_up_steps,
    )


def _evaluation(loop: TrainingLoop, seconds: float) -> tuple[float, float]:
    """Return the seconds to evaluate all test images, and the share measured within `seconds`."""
    batches = loop.data.test_batches(batch_size=max(loop.batch_size, 256), **loop.share)
    if not len(batches):
        return 0.0, 1.0
    used, started = 0, time.perf_counter()

    def some() -> Iterator[Batch]:
        nonlocal used
        for batch in batches:
            if used and time.perf_counter() - started > seconds:
                return
            used += 1
            yield batch

    half = loop.config.precision != "fp32"
    evaluate(
        loop.state.evaluated,
        some(),
        loop.accelerator.device,
        loop.classes,
        channels_last=loop.config.channels_last,
        autocast=loop.accelerator.autocast if half else contextlib.nullcontext,
    )
    share = used / len(batches)
    return (time.perf_counter() - started) / share, share


def _checkpoint(loop: TrainingLoop) -> tuple[float, int]:
    """Return the seconds to write the last and the best checkpoint, and the bytes of one."""
    if not loop.accelerator.is_main_process:
        return 0.0, 0
    started = time.perf_counter()
    save_checkpoint(loop.run, loop.state.state_dict(loop.config), best=True)
    return time.perf_counter() - started, checkpoint_path(loop.run).stat().st_size


def _wait(accelerator: Accelerator) -> None:
    if accelerator.device.type == "cuda":
        torch.cuda.synchronize(accelerator.device)
    elif accelerator.device.type == "mps":
        torch.mps.synchronize()


def _peak_bytes() -> int:
    """Return the peak resident memory of this process, or its present memory if the peak is unknown."""
    status = Path("/proc/self/status")
    if status.exists():
        peak = next((line for line in status.read_text().splitlines() if line.startswith("VmHWM:")), None)
        if peak is not None:
            return int(peak.split()[1]) * 1024
    info = psutil.Process().memory_info()
    return int(getattr(info, "peak_wset", info.rss))


def _workers_bytes() -> int:
    """Return the memory that only the child processes hold."""
    total = 0
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            total += int(child.memory_full_info().uss)
    return total
