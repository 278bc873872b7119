"""Peak memory of a training step by method: what its tensors take while it runs.

`python -m benchmarks.train_memory [--models resnet20,vgg16 --batch 128]`. On a CPU the bytes of the tensors
that one step makes and keeps (activations, gradients, a method's own) are counted after every operation, and
what stands before the step (weights, optimizer state, a teacher) is counted apart; on a GPU the allocator's
own peak is read. A second step is measured: the first makes the optimizer's state.
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
from benchmarks.steps import Side, side, training

METHODS = ("dense", "scratch", "dcff", "kdfs", "abp")


def measure(model: str, method: str, batch: int, pixels: int = 32) -> dict[str, Any]:
    """What stands before a step of `method` and what the step adds at its peak, in bytes."""
    with training(optimizer="sgd", lr=1e-3) as (accelerator, config):
        made = side(accelerator, config, method, model, batch=batch, pixels=pixels)
        made.begin(0)
        made.step()
        gc.collect()
        stands = standing(made)
        on_gpu = accelerator.device.type == "cuda"
        added = _peak_on_gpu(made) if on_gpu else _peak_counted(made)
        return {
            "model": model,
            "method": method,
            "device": str(accelerator.device),
            "standing": stands,
            "step": added,
            "peak": stands + added,
        }


def standing(made: Side) -> int:
    """Bytes of weights, buffers, optimizer state, the batch, and a teacher's."""
    tensors: list[Tensor] = [made.x, made.y, *made.model.parameters(), *made.model.buffers()]
    teacher = getattr(made.method, "_master", None)
    if isinstance(teacher, nn.Module):
        tensors += [*teacher.parameters(), *teacher.buffers()]
    tensors += made.stepper.state.parameters()
    for optimizer in made.stepper.state.optimizers:
        tensors += [v for state in optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]
    return _bytes(tensors)


def _bytes(tensors: Iterable[Tensor]) -> int:
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def _peak_counted(made: Side) -> int:
    with LiveBytes([made.x, made.y]) as memory:
        made.step()
    return memory.peak


def _peak_on_gpu(made: Side) -> int:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    made.step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def table(record: dict[str, Any]) -> Table:
    """The record as a table, with the peak as a multiple of the dense network's."""
    out = Table("network", "method", "standing", "step adds", "peak", "of dense",
                title=f"Peak memory of a training step, batch {record['batch']}")  # fmt: skip
    dense = {row["model"]: row["peak"] for row in record["runs"] if row["method"] == "dense"}
    for row in record["runs"]:
        of = f"{row['peak'] / dense[row['model']]:.2f}" if row["model"] in dense else "-"
        sizes = (f"{row[key] / 1e6:,.1f} MB" for key in ("standing", "step", "peak"))
        out.add_row(row["model"], row["method"], *sizes, of)
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="resnet20,resnet56,vgg16")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--pixels", type=int, default=32)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    asked = parser.parse_args(arguments)
    runs = [
        measure(model, method, asked.batch, asked.pixels)
        for model in asked.models.split(",")
        for method in asked.methods.split(",")
    ]
    record = {
        **provenance("benchmarks.train_memory", None if arguments is None else list(arguments)),
        "batch": asked.batch,
        "runs": runs,
    }
    Console().print(table(record))
    write_result("train_memory", record, asked.out)


if __name__ == "__main__":
    main()
