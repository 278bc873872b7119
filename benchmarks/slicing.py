"""Time and memory of tracing, planning and slicing.

`python -m benchmarks.slicing [--repeats 3]`: torchvision's ResNet-50 and DenseNet-121 at 224 x 224, batch 2,
one thread, half the MACs. Every repeat runs in its own process. Memory is the process's peak minus its
use once the network is built, as a multiple of the size of the network's parameters and buffers.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from typing import Any

import psutil
import torch
from rich.console import Console
from rich.table import Table

from compress.planning import make_plan

from .common import provenance, write_result

NETWORKS = {"torchvision/resnet50": 5.0, "torchvision/densenet121": 15.0}
"""Networks with their time limits in seconds."""

SIZE = (3, 224, 224)


class PeakMemory:
    """Context manager that measures how far resident memory rises above its value on entry, in bytes."""

    def __enter__(self) -> PeakMemory:
        self._process, self._stop = psutil.Process(), threading.Event()
        self._start = self.peak = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self.peak = max(self.peak, self._process.memory_info().rss)

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        self.peak = max(self.peak, self._process.memory_info().rss) - self._start


def measure_slicing(name: str) -> dict[str, Any]:
    """Measure one network in this process; return seconds of each step and memory in bytes."""
    from compress.graph import trace
    from compress.models import build
    from compress.slicing import slice_model

    torch.set_num_threads(1)
    torch.manual_seed(0)
    make_plan(trace(build("resnet20"), torch.zeros(2, 3, 32, 32)), keep=0.5)  # warm up the exporter
    model, images = build(name, 1000, SIZE).eval(), torch.zeros(2, *SIZE)
    size = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    with PeakMemory() as memory:
        times = [time.perf_counter()]
        graph = trace(model, images)
        times.append(time.perf_counter())
        plan = make_plan(graph, macs=0.5)
        times.append(time.perf_counter())
        slice_model(model, plan)
        times.append(time.perf_counter())
    seconds = {step: times[i + 1] - times[i] for i, step in enumerate(("trace", "plan", "slice"))}
    return {
        "seconds": seconds,
        "model_bytes": size,
        "peak_bytes": memory.peak,
        "groups": len(graph.groups),
        "macs": plan.narrow.macs / plan.dense.macs,
    }


def _measure_in_subprocess(name: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.slicing", "--one", name],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def summarize(name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians over the repeats of one network."""
    steps = {s: statistics.median(r["seconds"][s] for r in runs) for s in runs[0]["seconds"]}
    totals = [sum(r["seconds"].values()) for r in runs]
    return {
        "network": name, "seconds": steps, "total": statistics.median(totals), "totals": totals,
        "limit": NETWORKS[name], "groups": runs[0]["groups"], "macs": runs[0]["macs"],
        "model_bytes": runs[0]["model_bytes"],
        "memory": statistics.median(r["peak_bytes"] for r in runs) / runs[0]["model_bytes"],
    }  # fmt: skip


def render_slicing_table(rows: list[dict[str, Any]]) -> Table:
    """Return the medians as a table."""
    table = Table("network", "trace s", "plan s", "slice s", "total s", "limit s", "groups", "memory / model")
    for r in rows:
        s = r["seconds"]
        table.add_row(
            r["network"],
            f"{s['trace']:.2f}",
            f"{s['plan']:.2f}",
            f"{s['slice']:.2f}",
            f"{r['total']:.2f}",
            f"{r['limit']:g}",
            str(r["groups"]),
            f"{r['memory']:.2f}",
        )
    return table


def main() -> None:
    """Measure all networks, print the table and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure_slicing(args.one)))
        return
    rows = [summarize(name, [_measure_in_subprocess(name) for _ in range(args.repeats)]) for name in NETWORKS]
    Console(width=110).print(render_slicing_table(rows))
    write_result(
        "slicing",
        {
            "schema_version": 1,
            **provenance("benchmarks.slicing"),
            "threads": 1,
            "repeats": args.repeats,
            "input": [2, *SIZE],
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
