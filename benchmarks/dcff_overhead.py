"""Overhead of DCFF: a training step of VGG-16 at the recipe's widths, with and without fusion.

`python -m benchmarks.dcff_overhead [--batch 128 --pairs 30 --threads 2,1]`. Steps (forward, backward,
optimizer) are measured in ABBA blocks, with an A/A comparison. The coding, once per epoch, is measured
separately, layer by layer, and the peak memory of each side in a process of its own.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.common import RESULTS, provenance, write_result
from benchmarks.live_bytes import LiveBytes
from compress import models, recipes
from compress.bench.protocol.machine import OthersLoad
from compress.bench.protocol.paired import PairedComparison, compare_in_pairs, warm_up
from compress.bench.protocol.peak import resident
from compress.graph import SlicePlan, trace
from compress.methods.dcff.fusion import fuse, fused_layers, rows
from compress.methods.dcff.method import DCFF, code_filters, temperature, update_proxies
from compress.planning import make_plan
from compress.slicing import slice_model
from compress.training import PlainMethod, TrainConfig
from compress.training.optim import build_optimizers

RECIPE = "dcff-vgg16-cifar10"
MODEL = "vgg16"
SIZE = (3, 32, 32)
LARGE = (512, 4608)
"""Filters, and weights per filter, of the widest layer of the dense VGG-16."""

GOALS = {"step": 1.15, "memory": 1.3, "coding_ms": 50.0, "coding_mb": 50.0}


def recipe_plan(recipe: str = RECIPE, model: str = MODEL) -> tuple[SlicePlan, list[str]]:
    """Return the recipe's plan for the network, and the names of the weights that DCFF can fuse."""
    graph = trace(models.build(model), torch.rand(2, *SIZE), free_pads=True)
    widths = recipes.widths_from_drop_rates(graph, recipes.load(recipe).drop)
    return make_plan(graph, keep=widths, criterion="window"), graph.mixing_weights()


def build_network(kind: str, plan: SlicePlan, weights: Sequence[str], model: str = MODEL) -> nn.Module:
    """Return the compact network, ``plain`` or fused by ``dcff``, in training mode and channels last."""
    torch.manual_seed(0)
    dense = models.build(model)
    compact = slice_model(dense, plan)
    if kind == "dcff":
        fuse(compact, dict(dense.named_parameters()), plan, weights)
        update_proxies(compact, temperature(0, 300, DCFF()))
    return compact.to(memory_format=torch.channels_last).train()


class Steps:
    """Training steps of one network on one random batch; implements `compress.bench.backends.Timed`."""

    device_ns = None

    def __init__(self, model: nn.Module, batch: int) -> None:
        self.model = model
        config = TrainConfig(**recipes.load(RECIPE).train)
        (self.optimizer,) = build_optimizers(model, PlainMethod(), config)
        self.criterion = nn.CrossEntropyLoss()
        random = torch.Generator().manual_seed(0)
        self.x = torch.randn(batch, *SIZE, generator=random).contiguous(memory_format=torch.channels_last)
        self.y = torch.randint(0, 10, (batch,), generator=random)

    def run(self, count: int) -> NDArray[np.int64]:
        """Take `count` steps; return the nanoseconds of each."""
        taken = np.empty(count, dtype=np.int64)
        for i in range(count):
            start = time.perf_counter_ns()
            self.criterion(self.model(self.x), self.y).backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            taken[i] = time.perf_counter_ns() - start
        return taken


def measure_step(
    plan: SlicePlan, weights: Sequence[str], batch: int, pairs: int, model: str = MODEL
) -> dict[str, Any]:
    """Compare a step of DCFF with one of the plain network in pairs, and the plain network with itself."""
    load = OthersLoad()
    sides = [Steps(build_network(kind, plan, weights, model), batch) for kind in ("dcff", "plain", "plain")]
    typical = [warm_up(side).typical_ns for side in sides]
    floor = compare_in_pairs(sides[1], sides[2], typical_ns=(typical[1], typical[2]), pairs=pairs)
    comparison = compare_in_pairs(sides[0], sides[1], typical_ns=(typical[0], typical[1]), pairs=pairs)
    return {
        "dcff_ms": float(np.median(comparison.a_ns)) / 1e6,
        "plain_ms": float(np.median(comparison.b_ns)) / 1e6,
        "overhead": _ratio(comparison),
        "same_against_same": _ratio(floor),
        "others_load": load.share(),
    }


def _ratio(comparison: PairedComparison) -> dict[str, float]:
    ratio = comparison.ratio
    values = {"ratio": ratio.median, "low": ratio.low, "high": ratio.high}
    return {**{name: math.exp(value) for name, value in values.items()}, "pairs": ratio.pairs}


def measure_coding(
    plan: SlicePlan, weights: Sequence[str], repeats: int, model: str = MODEL, large: tuple[int, int] = LARGE
) -> list[dict[str, Any]]:
    """Measure time and memory of coding each fused layer, and a large one with and without equal filters."""
    fused = build_network("dcff", plan, weights, model)
    random = torch.randn(*large, generator=torch.Generator().manual_seed(0)) * 0.02
    twins = random.clone()
    twins[1] = twins[0]
    cases = [(name, rows(layer.full.detach())) for name, layer in _named(fused)]
    cases += [("large", random), ("large, with equal filters", twins)]
    return [{"layer": name, **_coding(filters, repeats)} for name, filters in cases]


def _named(model: nn.Module) -> list[tuple[str, Any]]:
    names = {id(module): name for name, module in model.named_modules()}
    return [(names[id(layer.module)], layer) for layer in fused_layers(model)]


def _coding(filters: Tensor, repeats: int) -> dict[str, Any]:
    with torch.no_grad(), LiveBytes([filters]) as memory:
        code_filters(filters, 1.0)
    times = []
    with torch.no_grad():
        for _ in range(repeats):
            start = time.perf_counter_ns()
            code_filters(filters, 1.0)
            times.append(time.perf_counter_ns() - start)
    count, size = filters.shape
    return {"filters": count, "weights": size, "ms": float(np.median(times)) / 1e6, "mb": memory.peak / 1e6}


def measure_memory(plan: SlicePlan, weights: Sequence[str], batch: int, threads: int) -> dict[str, Any]:
    """Return the peak memory that each side adds to that of the imports, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.json"
        path.write_text(json.dumps({"plan": plan.to_json(), "weights": list(weights)}))
        added = {kind: _added_memory(kind, path, batch, threads) for kind in ("dcff", "plain")}
    return {
        "dcff_mb": added["dcff"] / 1e6,
        "plain_mb": added["plain"] / 1e6,
        "ratio": added["dcff"] / added["plain"],
    }


def _added_memory(kind: str, path: Path, batch: int, threads: int) -> int:
    command = [sys.executable, "-m", "benchmarks.dcff_overhead", "--child", kind, "--plan", str(path)]
    command += ["--batch", str(batch), "--threads", str(threads)]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600, check=True)
    return int(json.loads(done.stdout)["added"])


def child(kind: str, path: Path, batch: int) -> None:
    """Print the bytes that building a network and a few training steps add to this process."""
    given = json.loads(path.read_text())
    plan = SlicePlan.from_json(given["plan"])
    before = resident()[0]
    model = build_network(kind, plan, given["weights"])
    gc.collect()
    Steps(model, batch).run(4)
    json.dump({"added": resident()[1] - before}, sys.stdout)


def measure_all(threads: int, batch: int, pairs: int) -> dict[str, Any]:
    """Measure step, coding and memory with a fixed number of threads."""
    torch.set_num_threads(threads)
    plan, weights = recipe_plan()
    return {
        "threads": threads,
        "step": measure_step(plan, weights, batch, pairs),
        "coding": measure_coding(plan, weights, repeats=15),
        "memory": measure_memory(plan, weights, batch, threads),
    }


def render_tables(record: dict[str, Any]) -> list[Table]:
    """Return the record as tables."""
    steps = Table("threads", "DCFF step", "plain step", "overhead", "same vs same", "memory", "memory ratio",
                  title=f"DCFF against the same compact network, batch {record['batch']}")  # fmt: skip
    layers = Table("layer", "filters x weights", title="Coding, once per epoch")
    for run in record["runs"]:
        step, memory = run["step"], run["memory"]
        steps.add_row(
            str(run["threads"]), f"{step['dcff_ms']:.0f} ms", f"{step['plain_ms']:.0f} ms",
            _text(step["overhead"]), _text(step["same_against_same"]),
            f"{memory['dcff_mb']:.0f} / {memory['plain_mb']:.0f} MB", f"{memory['ratio']:.3f}",
        )  # fmt: skip
        layers.add_column(f"{run['threads']} threads")
    layers.add_column("memory")
    for line in zip(*(run["coding"] for run in record["runs"]), strict=True):
        shape = f"{line[0]['filters']} x {line[0]['weights']}"
        layers.add_row(
            line[0]["layer"], shape, *(f"{x['ms']:.1f} ms" for x in line), f"{line[0]['mb']:.1f} MB"
        )
    return [steps, layers]


def _text(ratio: dict[str, float]) -> str:
    return f"{ratio['ratio']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--threads", default="2,1", help="numbers of threads, one run each")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    parser.add_argument("--child", choices=("dcff", "plain"), help=argparse.SUPPRESS)
    parser.add_argument("--plan", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        torch.set_num_threads(int(options.threads))
        child(options.child, options.plan, options.batch)
        return
    record = {
        **provenance("benchmarks.dcff_overhead", None if arguments is None else list(arguments)),
        "recipe": RECIPE,
        "batch": options.batch,
        "goals": GOALS,
        "runs": [
            measure_all(int(threads), options.batch, options.pairs) for threads in options.threads.split(",")
        ],
    }
    for table in render_tables(record):
        Console().print(table)
    write_result("dcff_overhead", record, options.out)


if __name__ == "__main__":
    main()
