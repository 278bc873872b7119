"""What a step of KDFS and of ABP costs beside a step of the dense network, the teacher's forward pass apart.

`python -m benchmarks.step_overhead [--models resnet20,resnet56,vgg16 --batch 128 --pairs 30 --threads 1]`.
The loop's own steps are measured in ABBA blocks in one process, with the same optimizer on both sides, and
beside an A/A pair. The teacher's forward pass is timed inside the step of KDFS, taken off it and reported
apart. On a CPU the clock is the process's own CPU time, which other programs hardly move.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.common import RESULTS, provenance, write_result
from benchmarks.steps import Side, side, training
from compress.bench.protocol.machine import OthersLoad
from compress.bench.protocol.paired import Comparison, compare, warm_up
from compress.methods.gated.kdfs import KDFS

GOAL = 1.15
"""Most that a step may take, as a multiple of the dense network's; KDFS without its teacher."""

OPTIMIZERS = {"kdfs": "adamax", "abp": "sgd"}
"""What each method trains with by default; the dense network then trains with the same."""


class Timer:
    """Adds up the time of a module's forward passes.

    Args:
        module: hooks are added to it; None: nothing is timed.
    """

    def __init__(self, module: nn.Module | None, device: torch.device) -> None:
        self._device, self._start, self.ns = device, 0, 0
        if module is not None:
            module.register_forward_pre_hook(self._begin)
            module.register_forward_hook(self._end)

    def _begin(self, module: nn.Module, args: Any) -> None:
        self._start = now_ns(self._device)

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        self.ns += now_ns(self._device) - self._start

    def take(self) -> int:
        """Nanoseconds since the last call."""
        taken, self.ns = self.ns, 0
        return taken


class Steps:
    """Steps of one side, less the teacher's forward pass; a `compress.bench.backends.Timed`."""

    device_ns = None

    def __init__(self, made: Side) -> None:
        self.made = made
        self.device = made.stepper.accelerator.device
        teacher = made.method._master if isinstance(made.method, KDFS) else None
        self.teacher = Timer(teacher, self.device)
        self.teacher_ns: list[int] = []
        made.begin(0)

    def run(self, count: int) -> NDArray[np.int64]:
        """Take `count` steps; return the nanoseconds of each."""
        taken = np.empty(count, dtype=np.int64)
        for i in range(count):
            start = now_ns(self.device)
            self.made.step()
            whole = now_ns(self.device) - start
            self.teacher_ns.append(self.teacher.take())
            taken[i] = whole - self.teacher_ns[-1]
        return taken


def now_ns(device: torch.device) -> int:
    """The clock: the process's CPU time, or on a GPU the host's once the device is done."""
    if device.type != "cuda":
        return time.process_time_ns()
    torch.cuda.synchronize(device)
    return time.perf_counter_ns()


def measure(model: str, method: str, batch: int, pairs: int, pixels: int = 32) -> dict[str, Any]:
    """A step of `method` against one of the dense network in pairs, and the dense network against itself."""
    load = OthersLoad()
    with training(optimizer=OPTIMIZERS[method], lr=1e-3) as (accelerator, config):
        sides = [
            Steps(side(accelerator, config, name, model, batch=batch, pixels=pixels))
            for name in (method, "dense", "dense")
        ]
        typical = [warm_up(one).typical_ns for one in sides]
        floor = compare(sides[1], sides[2], typical_ns=(typical[1], typical[2]), pairs=pairs)
        sides[0].teacher_ns.clear()
        found = compare(sides[0], sides[1], typical_ns=(typical[0], typical[1]), pairs=pairs)
        return {
            "model": model,
            "method": method,
            "optimizer": config.optimizer,
            "device": str(accelerator.device),
            "step_ms": float(np.median(found.a_ns)) / 1e6,
            "dense_ms": float(np.median(found.b_ns)) / 1e6,
            "teacher_ms": float(np.median(sides[0].teacher_ns)) / 1e6,
            "overhead": _ratio(found),
            "same_against_same": _ratio(floor),
            "others_load": load.share(),
        }


def _ratio(found: Comparison) -> dict[str, float]:
    names = {"ratio": found.ratio.median, "low": found.ratio.low, "high": found.ratio.high}
    return {**{name: math.exp(value) for name, value in names.items()}, "pairs": found.ratio.pairs}


def table(record: dict[str, Any]) -> Table:
    """The record as a table."""
    out = Table("network", "method", "step", "dense step", "overhead", "same vs same", "teacher's forward",
                title=f"A step beside the dense network's, batch {record['batch']}")  # fmt: skip
    for row in record["runs"]:
        out.add_row(
            row["model"], row["method"], f"{row['step_ms']:.1f} ms", f"{row['dense_ms']:.1f} ms",
            _text(row["overhead"]), _text(row["same_against_same"]),
            f"{row['teacher_ms']:.1f} ms" if row["teacher_ms"] else "-",
        )  # fmt: skip
    return out


def _text(ratio: dict[str, float]) -> str:
    return f"{ratio['ratio']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="resnet20,resnet56,vgg16")
    parser.add_argument("--methods", default="kdfs,abp")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--pixels", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(asked.threads)
    record: dict[str, Any] = {
        **provenance("benchmarks.step_overhead", None if arguments is None else list(arguments)),
        "batch": asked.batch,
        "threads": asked.threads,
        "goal": GOAL,
        "runs": [],
    }
    for model in asked.models.split(","):
        for method in asked.methods.split(","):
            record["runs"].append(measure(model, method, asked.batch, asked.pairs, asked.pixels))
            Console().print(table({**record, "runs": record["runs"][-1:]}))
            write_result("step_overhead", record, asked.out)  # each at once: a whole run takes an hour
    Console().print(table(record))


if __name__ == "__main__":
    main()
