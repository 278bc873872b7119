"""Whether a training's steps are compiled: what pays over the epochs that are left, by measurement.

Steps as written, compiled, and compiled into CUDA graphs alternate on real batches. The training is then put
back to where it was, as if it had been stopped and resumed, so that measuring changes nothing but the time.
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
from compress.training.forward import EAGER, Mode
from compress.training.probe import NoProbe
from compress.training.steps import Stepper

logger = logging.getLogger(__name__)

Wish = Literal["auto", "on", "cuda-graphs", "off"]
Batch = tuple[Tensor, Tensor]

LEAST_S = 30.0
"""Seconds of training that must be left for a compiler to be tried: about what it takes to start."""

_WARM_STEPS = 3
_ROUNDS = 8
_BLOCK_S = 0.2
_MOST_STEPS = 20


@dataclass(frozen=True)
class Decision:
    """How the steps run.

    Attributes:
        mode: ``eager``, ``compiled`` or ``cuda-graphs``. why: the reason, in words.
        step_ms: median of a step in each mode that was measured. compile_s: what each took to start.
        saved_s: what each would save over the steps left, the start not counted (lower quartile of the
            measured pairs). failed: modes that did not run, with the error.
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
        """JSON types only."""
        return asdict(self)


def no_compiler(device: torch.device) -> str:
    """Why `torch.compile` cannot work on a device, as far as that can be told without trying; or empty."""
    if device.type == "mps":
        return "this device is not compiled for"
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            return "Triton is not installed"
        if torch.cuda.get_device_capability(device) < (7, 0):
            return f"{torch.cuda.get_device_name(device)} is too old for Triton"
    return ""


def choose(
    stepper: Stepper,
    run: RunFolder,
    wish: Wish,
    left: int,
    begin: Callable[[], None],
    batches: Callable[[], Sequence[Batch]],
    before: Mode | None = None,
) -> Decision:
    """Choose a mode, set it, and leave the training as it was.

    Args:
        stepper: takes the steps. run: the run, for messages.
        wish: what was asked. left: optimizer steps that are left.
        begin: what an epoch does before its first step.
        batches: gives some batches of this process on the device, all of the size of a step.
        before: what an earlier part of this run chose; ``auto`` stays with it.

    Raises:
        CompressError: ``compile``: it was asked for and does not work here.
    """
    device = stepper.accelerator.device
    if wish == "off" or not left:
        return _set(stepper, Decision("eager", "not wished" if wish == "off" else "no steps are left"))
    if wish == "cuda-graphs" and device.type != "cuda":
        raise _impossible("CUDA graphs need a CUDA device", device)
    asked: Mode | None = {"on": "compiled", "cuda-graphs": "cuda-graphs"}.get(wish)  # type: ignore[assignment]
    if asked is None and before is not None:
        why = "as before in this run"
        if before == "eager":
            return _set(stepper, Decision("eager", why, steps_left=left))
        wanted: tuple[Mode, ...] = (before,)
    elif asked is not None:
        why, wanted = "as asked", (asked,)
    elif device.type == "cpu":
        why = "on a CPU nothing is compiled unless asked (--compile on)"
        return _set(stepper, Decision("eager", why, steps_left=left))
    else:
        why, wanted = "", ("compiled", "cuda-graphs")
    missing = no_compiler(device)
    if missing:
        if asked is not None:
            raise _impossible(missing, device)
        return _set(stepper, Decision("eager", missing, steps_left=left))
    trial = Trial(stepper, run, begin, batches)
    try:
        decision = trial.try_out(wanted, left, why) if why else trial.measure(wanted, left)
    finally:
        trial.restore()
    if asked is not None and decision.mode != asked:
        raise _impossible(decision.failed[asked], device)
    return _set(stepper, decision)


class Trial:
    """Steps that are taken back.

    Args: see `choose`.
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
        """Put the training back to where it was; the next epoch begins as it would have."""
        state = self._stepper.state
        for optimizer in state.optimizers:
            optimizer.zero_grad(set_to_none=True)
        state.load_state_dict(self._saved, self._stepper.config, self._run)
        self._batches = []

    def try_out(self, modes: Sequence[Mode], left: int, why: str) -> Decision:
        """Start the modes, and choose the first that runs."""
        failed: dict[str, str] = {}
        for mode in modes:
            try:
                started = self._start(mode, 0.0)
            except CompressError:
                raise
            except Exception as error:  # whatever a compiler stumbles over
                failed[mode] = _said(error)
                continue
            return Decision(mode, why, compile_s={mode: started}, failed=failed, steps_left=left)
        return Decision("eager", "no other mode runs", failed=failed, steps_left=left)

    def measure(self, modes: Sequence[Mode], left: int, least_s: float = LEAST_S) -> Decision:
        """Measure steps as written and in every other mode, and choose what pays over `left` steps."""
        self._steps(EAGER, _WARM_STEPS)
        typical = self._together([self._steps(EAGER, _WARM_STEPS)])[0]
        if typical * left < least_s:
            why = f"about {typical * left:.0f} s of training are left, too few for a compiler to pay"
            return Decision("eager", why, step_ms={EAGER: typical * 1e3}, steps_left=left)
        started, failed = dict[Mode, float](), dict[str, str]()
        for mode in modes:
            try:
                started[mode] = self._start(mode, typical)
            except CompressError:
                raise
            except Exception as error:  # a compiler may fail in any way; the training goes on without it
                failed[mode] = _said(error)
        if not started:
            return Decision("eager", "no compiler works here", {EAGER: typical * 1e3}, failed=failed)
        times = self._alternate([EAGER, *started], typical)
        step_ms = {str(mode): statistics.median(found) * 1e3 for mode, found in times.items()}
        saved = {mode: _saving(times[EAGER], times[mode]) * left for mode in started}
        gain = {mode: saved[mode] - started[mode] for mode in started}
        best = max(gain, key=lambda mode: gain[mode])
        chosen: Mode = best if gain[best] > 0 else EAGER
        why = (
            f"{best} takes {step_ms[best]:.2f} ms a step and eager {step_ms[EAGER]:.2f} ms; over {left:,} "
            f"steps that saves {saved[best]:.0f} s, and starting took {started[best]:.0f} s"
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
        """Seconds that the first steps of a mode take more than steps do."""
        began = time.perf_counter()
        self._steps(mode, _WARM_STEPS)
        return max(0.0, time.perf_counter() - began - _WARM_STEPS * typical)

    def _alternate(self, modes: Sequence[Mode], typical: float) -> dict[Mode, list[float]]:
        """Seconds of a step, of each mode in each round; every other round runs backwards."""
        count = max(1, min(_MOST_STEPS, round(_BLOCK_S / typical)))
        times: dict[Mode, list[float]] = {mode: [] for mode in modes}
        for i in range(_ROUNDS):
            for mode in modes if i % 2 == 0 else reversed(modes):
                self._steps(mode, 1)
                times[mode].append(self._steps(mode, count))
        flat = self._together([t for mode in modes for t in times[mode]])
        return {mode: flat[i * _ROUNDS : (i + 1) * _ROUNDS] for i, mode in enumerate(modes)}

    def _steps(self, mode: Mode, count: int) -> float:
        """Take `count` steps; return the seconds of one."""
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

    def _together(self, seconds: list[float]) -> list[float]:
        """The means over all processes, which must choose alike."""
        accelerator = self._stepper.accelerator
        if accelerator.num_processes == 1:
            return seconds
        mine = torch.tensor(seconds, dtype=torch.float32, device=accelerator.device)
        means: list[float] = (sum_over_processes(accelerator, mine) / accelerator.num_processes).tolist()
        return means


def _saving(eager: Sequence[float], other: Sequence[float]) -> float:
    """Seconds a step saves: the lower quartile of the differences of the rounds."""
    differences = [a - b for a, b in zip(eager, other, strict=True)]
    return statistics.quantiles(differences, n=4)[0]


def _set(stepper: Stepper, decision: Decision) -> Decision:
    stepper.forward.use(decision.mode)
    return decision


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _said(error: Exception) -> str:
    logger.debug("a compiler failed", exc_info=error)
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _impossible(why: str, device: torch.device) -> CompressError:
    return CompressError(
        f"steps on {device} cannot be compiled: {why}",
        hint="use --compile auto or off; a CPU needs a C++ compiler, a GPU needs Triton",
        code="compile",
        exit=Exit.MISSING,
    )
