"""`--profile`: a trace of some steps, and a short table of where their time goes.

The parts in the table are timed without the profiler, whose own work would be counted too, in other steps
than those that are traced.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from compress.core.files import explain_write_errors, write_json
from compress.core.spec import SCHEMA_VERSION
from compress.training.probe import StepClock

_WARM, _CLOCKED, _TRACED = 10, 20, 5
_TOP = 10
_RANGE = "step: "
_SILENT = "6"  # above every level of Kineto's messages


class StepProfiler:
    """Skips some steps, times the parts of the next ones, and traces a few more; a `Probe`.

    Not by `torch.profiler.schedule`: it counts consecutive steps and starts recording at the end of the step
    before, so that a trace that begins with an epoch would contain the evaluation before it, and it warns
    where a training is too short for its warm-up.

    Args:
        folder: folder for `trace.json` and `table.json`.
        device: device of the steps.
        steps: steps in an epoch.
        left: steps that are left of the training.
    """

    def __init__(self, folder: Path, device: torch.device, steps: int, left: int) -> None:
        self._folder, self._device, self._steps = folder, device, steps
        self._traced = max(1, min(_TRACED, steps, left // 4))
        self._warm = min(_WARM, left // 4)
        self._clocked = min(_CLOCKED, left - self._warm - self._traced)
        self._seen = 0
        self._clock = StepClock(device)
        self._trace: profile | None = None
        self._range: contextlib.ExitStack | None = None
        self._traces_left = self._traced
        self._result: dict[str, Any] | None = None

    def begin(self, step: int) -> None:
        """Begin step `step` of the epoch."""
        self._seen += 1
        timed = self._warm + self._clocked
        if self._trace is None and self._result is None and self._seen > timed:
            if step + self._traced - 1 > self._steps:
                return  # a trace must not contain the evaluation
            if self._device.type == "cpu":  # else Kineto reports on stderr that there is no GPU
                os.environ.setdefault("KINETO_LOG_LEVEL", _SILENT)
            self._trace = profile(activities=self._activities())
            self._trace.start()
        if self._trace is not None or self._is_clocked:
            self._clock.begin(step)

    def part(self, name: str) -> None:
        """Begin a part."""
        if self._trace is not None:
            self._close_range()
            self._range = contextlib.ExitStack()
            self._range.enter_context(record_function(_RANGE + name))
        if self._trace is not None or self._is_clocked:
            self._clock.part(name)

    def end(self) -> None:
        """End the step."""
        if self._is_clocked or (self._trace is not None and not self._clocked):
            self._clock.end()
        if self._trace is not None:
            self._close_range()
            self._traces_left -= 1
            if not self._traces_left:
                self._finish(self._trace)

    @property
    def result(self) -> dict[str, Any] | None:
        """The table, once it is written."""
        return self._result

    def close(self) -> None:
        """Stop tracing if the training ends early."""
        if self._trace is not None:
            self._close_range()
            self._trace.stop()
            self._trace = None

    @property
    def _is_clocked(self) -> bool:
        return self._warm < self._seen <= self._warm + self._clocked

    def _activities(self) -> list[ProfilerActivity]:
        cuda = [ProfilerActivity.CUDA] if self._device.type == "cuda" else []
        return [ProfilerActivity.CPU, *cuda]

    def _close_range(self) -> None:
        if self._range is not None:
            self._range.close()
            self._range = None

    def _finish(self, trace: profile) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        trace.stop()
        self._trace = None
        steps = self._clock.parts_ms()
        names = list(dict.fromkeys(name for step in steps for name in step))
        mean = {name: sum(step.get(name, 0.0) for step in steps) / len(steps) for name in names}
        total = sum(mean.values())
        self._result = {
            "schema_version": SCHEMA_VERSION,
            "kind": "compress-profile",
            "device": str(self._device),
            "steps": len(steps),
            "step_ms": total,
            "parts": [{"name": n, "ms": ms, "share": ms / total} for n, ms in mean.items()],
            "traced_steps": self._traced,
            "operators": _operators(trace, self._device.type == "cuda"),
            "trace": "trace.json",
        }
        with explain_write_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            written = self._folder / "trace.json.new"
            trace.export_chrome_trace(str(written))
            written.replace(self._folder / "trace.json")
        write_json(self._folder / "table.json", self._result)


def _operators(trace: profile, on_gpu: bool) -> list[dict[str, Any]]:
    """Return the operators with the most time of their own, on the device that computes."""
    key = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    events = [
        e
        for e in trace.key_averages()
        if not e.key.startswith((_RANGE, "ProfilerStep")) and getattr(e, key) > 0
    ]
    total = sum(getattr(e, key) for e in events) or 1.0
    top = sorted(events, key=lambda e: -getattr(e, key))[:_TOP]
    return [
        {
            "name": str(e.key),
            "ms": float(getattr(e, key)) / 1e3,
            "share": float(getattr(e, key) / total),
            "calls": int(e.count),
        }
        for e in top
    ]
