"""Decide by measurement whether the steps of a training are compiled.

Eager steps, compiled steps and steps with CUDA graphs alternate on real batches. The training is then
restored to its earlier state, as if it had been stopped and resumed, so that measuring does not change the
result.
"""

from __future__ import annotations

import copy
import importlib.util
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from compress.artifact import RunFolder
from compress.core.errors import CompressError, Exit
from compress.training.device import sum_over_processes
from compress.training.probe import NoProbe
from compress.training.steps import EAGER, Mode, Stepper

logger = logging.getLogger(__name__)

CompileSetting = Literal["auto", "on", "cuda-graphs", "off"]
Batch = tuple[Tensor, Tensor]

MIN_REMAINING_S = 30.0
"""Seconds of training that must be left for a compiler to be tried: about what compiling takes."""

_WARM_STEPS = 3
_ROUNDS = 8
_BLOCK_S = 0.2
_MAX_STEPS = 20


@dataclass(frozen=True)
class Decision:
    """The mode in which the steps run.

    Attributes:
        mode: ``eager``, ``compiled`` or ``cuda-graphs``.
        why: the reason.
        step_ms: median time of a step in each mode that was measured.
        compile_s: seconds that each mode took to compile.
        saved_s: seconds that each mode would save over the steps left, without compiling (lower quartile of
            the measured pairs).
        failed: modes that did not run, with the error.
        steps_left: optimizer steps that were left.
    """

    mode: Mode
    why: str
    step_ms: dict[str, float] = field(default_factory=dict)
    compile_s: dict[str, float] = field(default_factory=dict)
    saved_s: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    steps_left: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the decision as JSON types."""
        return asdict(self)


def no_compiler(device: torch.device) -> str:
    """Return why `torch.compile` cannot work on a device, as far as is known without trying; or empty."""
    if device.type == "mps":
        return "torch.compile does not support this device"
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            return "Triton is not installed"
        if torch.cuda.get_device_capability(device) < (7, 0):
            return f"{torch.cuda.get_device_name(device)} is too old for Triton"
    return ""


def choose_mode(
    stepper: Stepper,
    run: RunFolder,
    setting: CompileSetting,
    left: int,
    begin: Callable[[], None],
    batches: Callable[[], Sequence[Batch]],
    before: Mode | None = None,
) -> Decision:
    """Choose and set a mode; the state of the training is unchanged afterwards.

    Args:
        stepper: takes the steps.
        run: the run, for messages.
        setting: the requested setting.
        left: optimizer steps that are left.
        begin: what an epoch does before its first step.
        batches: returns some batches of this process on the device, all of the size of a step.
        before: the mode that an earlier part of this run chose; ``auto`` keeps it.

    Raises:
        CompressError: ``compile``: a mode was requested that does not work here.
    """
    device = stepper.accelerator.device
    if setting == "off" or not left:
        return _set(stepper, Decision("eager", "compile is off" if setting == "off" else "no steps are left"))
    if setting == "cuda-graphs" and device.type != "cuda":
        raise _cannot_compile("CUDA graphs need a CUDA device", device)
    requested: Mode | None = {"on": "compiled", "cuda-graphs": "cuda-graphs"}.get(setting)  # type: ignore[assignment]
    if requested is None and before is not None:
        why = "as before in this run"
        if before == "eager":
            return _set(stepper, Decision("eager", why, steps_left=left))
        candidates: tuple[Mode, ...] = (before,)
    elif requested is not None:
        why, candidates = "as requested", (requested,)
    elif device.type == "cpu":
        why = "on a CPU steps are compiled only with --compile on"
        return _set(stepper, Decision("eager", why, steps_left=left))
    else:
        why, candidates = "", ("compiled", "cuda-graphs")
    missing = no_compiler(device)
    if missing:
        if requested is not None:
            raise _cannot_compile(missing, device)
        return _set(stepper, Decision("eager", missing, steps_left=left))
    trial = Trial(stepper, run, begin, batches)
    try:
        decision = trial.try_modes(candidates, left, why) if why else trial.measure_modes(candidates, left)
    finally:
        trial.restore()
    if requested is not None and decision.mode != requested:
        raise _cannot_compile(decision.failed[requested], device)
    return _set(stepper, decision)


class Trial:
    """Steps on trial, after which the training is restored.

    Args: see `choose_mode`.
    """

    def __init__(
        self,
        stepper: Stepper,
        run: RunFolder,
        begin: Callable[[], None],
        batches: Callable[[], Sequence[Batch]],
    ) -> None:
        self._stepper, self._run = stepper, run
        self._saved = copy.deepcopy(stepper.state.state_dict(stepper.config))
        torch.compiler.reset()
        begin()
        stepper.state.model.train()
        self._batches, self._at = batches(), 0

    def restore(self) -> None:
        """Restore the state of the training; the next epoch begins as if nothing had been tried."""
        state = self._stepper.state
        for optimizer in state.optimizers:
            optimizer.zero_grad(set_to_none=True)
        state.load_state_dict(self._saved, self._stepper.config, self._run)
        self._batches = []

    def try_modes(self, modes: Sequence[Mode], left: int, why: str) -> Decision:
        """Compile the modes in order and choose the first that runs."""
        failed: dict[str, str] = {}
        for mode in modes:
            try:
                started = self._start(mode, 0.0)
            except CompressError:
                raise
            except Exception as error:  # a compiler may fail in any way
                failed[mode] = _describe(error)
                continue
            return Decision(mode, why, compile_s={mode: started}, failed=failed, steps_left=left)
        return Decision("eager", "no other mode runs", failed=failed, steps_left=left)

    def measure_modes(self, modes: Sequence[Mode], left: int, least_s: float = MIN_REMAINING_S) -> Decision:
        """Measure eager steps and those of every mode, and choose what is fastest over `left` steps."""
        self._steps(EAGER, _WARM_STEPS)
        typical = self._mean_over_processes([self._steps(EAGER, _WARM_STEPS)])[0]
        if typical * left < least_s:
            why = f"about {typical * left:.0f} s of training are left, too few to compile"
            return Decision("eager", why, step_ms={EAGER: typical * 1e3}, steps_left=left)
        started, failed = dict[Mode, float](), dict[str, str]()
        for mode in modes:
            try:
                started[mode] = self._start(mode, typical)
            except CompressError:
                raise
            except Exception as error:  # a compiler may fail in any way; the training continues without it
                failed[mode] = _describe(error)
        if not started:
            return Decision("eager", "no compiler works here", {EAGER: typical * 1e3}, failed=failed)
        times = self._alternate([EAGER, *started], typical)
        step_ms = {str(mode): statistics.median(seconds) * 1e3 for mode, seconds in times.items()}
        saved = {mode: _saved_seconds(times[EAGER], times[mode]) * left for mode in started}
        gain = {mode: saved[mode] - started[mode] for mode in started}
        best = max(gain, key=lambda mode: gain[mode])
        chosen: Mode = best if gain[best] > 0 else EAGER
        why = (
            f"{best} takes {step_ms[best]:.2f} ms a step and eager {step_ms[EAGER]:.2f} ms; over {left:,} "
            f"steps that saves {saved[best]:.0f} s, and compiling took {started[best]:.0f} s"
        )
        return Decision(
            chosen,
            why,
            step_ms,
            dict[str, float](started.items()),
            dict[str, float](saved.items()),
            failed,
            left,
        )

    def _start(self, mode: Mode, typical: float) -> float:
        """Return how many seconds the first steps of a mode take more than later ones."""
        began = time.perf_counter()
        self._steps(mode, _WARM_STEPS)
        return max(0.0, time.perf_counter() - began - _WARM_STEPS * typical)

    def _alternate(self, modes: Sequence[Mode], typical: float) -> dict[Mode, list[float]]:
        """Seconds of a step, of each mode in each round; every other round runs backwards."""
        count = max(1, min(_MAX_STEPS, round(_BLOCK_S / typical)))
        times: dict[Mode, list[float]] = {mode: [] for mode in modes}
        for i in range(_ROUNDS):
            for mode in modes if i % 2 == 0 else reversed(modes):
                self._steps(mode, 1)
                times[mode].append(self._steps(mode, count))
        flat = self._mean_over_processes([t for mode in modes for t in times[mode]])
        return {mode: flat[i * _ROUNDS : (i + 1) * _ROUNDS] for i, mode in enumerate(modes)}

    def _steps(self, mode: Mode, count: int) -> float:
        """Take `count` steps; return the mean seconds of one."""
        stepper, device = self._stepper, self._stepper.accelerator.device
        stepper.forward.use(mode)
        _wait(device)
        began = time.perf_counter()
        for _ in range(count):
            x, y = self._batches[self._at % len(self._batches)]
            self._at += 1
            stepper.step(x, y, stepper.learning_rate(1), NoProbe())
        _wait(device)
        return (time.perf_counter() - began) / count

    def _mean_over_processes(self, seconds: list[float]) -> list[float]:
        """Return the means over all processes, which must choose the same mode."""
        accelerator = self._stepper.accelerator
        if accelerator.num_processes == 1:
            return seconds
        mine = torch.tensor(seconds, dtype=torch.float32, device=accelerator.device)
        means: list[float] = (sum_over_processes(accelerator, mine) / accelerator.num_processes).tolist()
        return means


def _saved_seconds(eager: Sequence[float], other: Sequence[float]) -> float:
    """Return the seconds that a step saves: lower quartile of the differences of the rounds."""
    differences = [a - b for a, b in zip(eager, other, strict=True)]
    return statistics.quantiles(differences, n=4)[0]


def _set(stepper: Stepper, decision: Decision) -> Decision:
    stepper.forward.use(decision.mode)
    return decision


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _describe(error: Exception) -> str:
    logger.debug("a compiler failed", exc_info=error)
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _cannot_compile(why: str, device: torch.device) -> CompressError:
    return CompressError(
        f"steps on {device} cannot be compiled: {why}",
        hint="use --compile auto or off; a CPU needs a C++ compiler, a GPU needs Triton",
        code="compile",
        exit=Exit.MISSING,
    )
