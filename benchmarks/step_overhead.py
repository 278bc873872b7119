"""Overhead of a training step of KDFS and ABP over one of the dense network.

`python -m benchmarks.step_overhead [--models resnet20,resnet56,vgg16 --batch 128 --pairs 30 --threads 1]`.
The steps of the training loop are measured in ABBA blocks in one process, with the same optimizer on both
sides, and with an A/A comparison. The teacher's forward pass is timed within the step of KDFS, subtracted and
reported separately. On a CPU the clock is the CPU time of the process, which other programs hardly affect.
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
from benchmarks.steps import Side, training
from benchmarks.steps import side as build_side
from compress.bench.protocol.machine import OthersLoad
from compress.bench.protocol.paired import PairedComparison, compare_in_pairs, warm_up
from compress.methods.gated.kdfs import KDFSMethod

GOAL = 1.15
"""Limit of a step as a multiple of the dense network's; KDFS without its teacher."""

OPTIMIZERS = {"kdfs": "adamax", "abp": "sgd"}
"""Default optimizer of each method; the dense network is trained with the same one."""


class ForwardTimer:
    """Hooks that sum the time of a module's forward passes.

    Args:
        module: gets the hooks; None: nothing is timed.
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
        """Return the nanoseconds since the last call."""
        taken, self.ns = self.ns, 0
        return taken


class Steps:
    """Steps of one side without the teacher's forward pass; implements `compress.bench.backends.Timed`."""

    device_ns = None

    def __init__(self, side: Side) -> None:
        self.side = side
        self.device = side.stepper.accelerator.device
        teacher = side.method.teacher if isinstance(side.method, KDFSMethod) else None
        self.teacher = ForwardTimer(teacher, self.device)
        self.teacher_ns: list[int] = []
        side.begin(0)

    def run(self, count: int) -> NDArray[np.int64]:
        """Take `count` steps; return the nanoseconds of each."""
        taken = np.empty(count, dtype=np.int64)
        for i in range(count):
            start = now_ns(self.device)
            self.side.step()
            whole = now_ns(self.device) - start
            self.teacher_ns.append(self.teacher.take())
            taken[i] = whole - self.teacher_ns[-1]
        return taken


def now_ns(device: torch.device) -> int:
    """Return the CPU time of the process, or on a GPU the time of the host after synchronizing."""
    if device.type != "cuda":
        return time.process_time_ns()
    torch.cuda.synchronize(device)
    return time.perf_counter_ns()


def measure_overhead(model: str, method: str, batch: int, pairs: int, pixels: int = 32) -> dict[str, Any]:
    """Compare steps of `method` and of the dense network in pairs, and the dense network with itself."""
    load = OthersLoad()
    with training(optimizer=OPTIMIZERS[method], lr=1e-3) as (accelerator, config):
        sides = [
            Steps(build_side(accelerator, config, name, model, batch=batch, pixels=pixels))
            for name in (method, "dense", "dense")
        ]
        typical = [warm_up(one).typical_ns for one in sides]
        floor = compare_in_pairs(sides[1], sides[2], typical_ns=(typical[1], typical[2]), pairs=pairs)
        sides[0].teacher_ns.clear()
        comparison = compare_in_pairs(sides[0], sides[1], typical_ns=(typical[0], typical[1]), pairs=pairs)
        return {
            "model": model,
            "method": method,
            "optimizer": config.optimizer,
            "device": str(accelerator.device),
            "step_ms": float(np.median(comparison.a_ns)) / 1e6,
            "dense_ms": float(np.median(comparison.b_ns)) / 1e6,
            "teacher_ms": float(np.median(sides[0].teacher_ns)) / 1e6,
            "overhead": _ratio(comparison),
            "same_against_same": _ratio(floor),
            "others_load": load.share(),
        }


def _ratio(comparison: PairedComparison) -> dict[str, float]:
    ratio = comparison.ratio
    values = {"ratio": ratio.median, "low": ratio.low, "high": ratio.high}
    return {**{name: math.exp(value) for name, value in values.items()}, "pairs": ratio.pairs}


def render_table(record: dict[str, Any]) -> Table:
    """Return the record as a table."""
    out = Table("network", "method", "step", "dense step", "overhead", "same vs same", "teacher's forward",
                title=f"A training step against the dense network's, batch {record['batch']}")  # fmt: skip
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
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    record: dict[str, Any] = {
        **provenance("benchmarks.step_overhead", None if arguments is None else list(arguments)),
        "batch": options.batch,
        "threads": options.threads,
        "goal": GOAL,
        "runs": [],
    }
    for model in options.models.split(","):
        for method in options.methods.split(","):
            record["runs"].append(
                measure_overhead(model, method, options.batch, options.pairs, options.pixels)
            )
            Console().print(render_table({**record, "runs": record["runs"][-1:]}))
            write_result("step_overhead", record, options.out)  # after each: all together take an hour
    Console().print(render_table(record))


if __name__ == "__main__":
    main()
