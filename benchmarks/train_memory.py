"""Peak memory of a training step by method.

`python -m benchmarks.train_memory [--models resnet20,vgg16 --batch 128]`. On a CPU the bytes of the tensors
that one step creates and keeps (activations, gradients, tensors of the method) are counted after every
operation. Tensors that exist before the step (weights, optimizer state, a teacher) are counted separately. On
a GPU the allocator's peak is read. The second step is measured; the first creates the optimizer's state.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.common import RESULTS, provenance, write_result
from benchmarks.live_bytes import LiveBytes
from benchmarks.steps import Side, training
from benchmarks.steps import side as build_side

METHODS = ("dense", "scratch", "dcff", "kdfs", "abp")


def measure_memory(model: str, method: str, batch: int, pixels: int = 32) -> dict[str, Any]:
    """Return the bytes before a step of `method`, and those that the step adds at its peak."""
    with training(optimizer="sgd", lr=1e-3) as (accelerator, config):
        side = build_side(accelerator, config, method, model, batch=batch, pixels=pixels)
        side.begin(0)
        side.step()
        gc.collect()
        before = standing_bytes(side)
        on_gpu = accelerator.device.type == "cuda"
        added = _peak_on_gpu(side) if on_gpu else _peak_counted(side)
        return {
            "model": model,
            "method": method,
            "device": str(accelerator.device),
            "standing": before,
            "step": added,
            "peak": before + added,
        }


def standing_bytes(side: Side) -> int:
    """Return the bytes of weights, buffers, optimizer state, the batch and a teacher."""
    tensors: list[Tensor] = [side.x, side.y, *side.model.parameters(), *side.model.buffers()]
    teacher = getattr(side.method, "_master", None)
    if isinstance(teacher, nn.Module):
        tensors += [*teacher.parameters(), *teacher.buffers()]
    tensors += side.stepper.state.parameters()
    for optimizer in side.stepper.state.optimizers:
        tensors += [v for state in optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]
    return _bytes(tensors)


def _bytes(tensors: Iterable[Tensor]) -> int:
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def _peak_counted(side: Side) -> int:
    with LiveBytes([side.x, side.y]) as memory:
        side.step()
    return memory.peak


def _peak_on_gpu(side: Side) -> int:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    side.step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def render_table(record: dict[str, Any]) -> Table:
    """Return the record as a table, with the peak as a multiple of the dense network's."""
    out = Table("network", "method", "before the step", "added by the step", "peak", "relative to dense",
                title=f"Peak memory of a training step, batch {record['batch']}")  # fmt: skip
    dense = {row["model"]: row["peak"] for row in record["runs"] if row["method"] == "dense"}
    for row in record["runs"]:
        relative = f"{row['peak'] / dense[row['model']]:.2f}" if row["model"] in dense else "-"
        sizes = (f"{row[key] / 1e6:,.1f} MB" for key in ("standing", "step", "peak"))
        out.add_row(row["model"], row["method"], *sizes, relative)
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="resnet20,resnet56,vgg16")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--pixels", type=int, default=32)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    options = parser.parse_args(arguments)
    runs = [
        measure_memory(model, method, options.batch, options.pixels)
        for model in options.models.split(",")
        for method in options.methods.split(",")
    ]
    record = {
        **provenance("benchmarks.train_memory", None if arguments is None else list(arguments)),
        "batch": options.batch,
        "runs": runs,
    }
    Console().print(render_table(record))
    write_result("train_memory", record, options.out)


if __name__ == "__main__":
    main()
