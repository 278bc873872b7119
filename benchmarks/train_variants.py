"""A network in the forms it is trained in: dense, narrow from scratch, DCFF, KDFS, ABP; a step of each."""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.matmul_peak import DTYPES
from compress.core.spec import Costs
from compress.methods import Setup
from compress.pipeline import Planned, Resolved, TrainRequest, plan_training, resolve
from compress.training.optim import build_optimizers

VARIANTS = {
    "dense": "the dense network",
    "scratch": "the narrow network alone, at the recipe's widths",
    "dcff": "the same narrow network with fused filters; the coding once an epoch is not in a step",
    "kdfs": "while it searches: the dense network under sampled masks, the teacher's forward beside it",
    "abp": "while it searches: the dense network under binary gates",
}
"""What is trained. In the last epochs of kdfs and abp the masks are fixed, which costs about the same."""

MASKED = ("kdfs", "abp")
FORWARDS = 3
"""A step counts as three forward passes: the gradients of inputs and of weights are the other two."""

LEAD_IN = 3
"""Steps on a GPU that fill its queue before any is timed."""


@dataclass(frozen=True)
class Variant:
    """One form of a network, ready for steps.

    Attributes:
        macs: of one image forward, of what is trained. teacher_macs: of the teacher's forward; 0 without.
        deployed_macs: of the network that comes out of it; None where the search decides that.
        params: that are trained.
    """

    name: str
    steps: Steps
    macs: int
    teacher_macs: int
    deployed_macs: int | None
    params: int

    @property
    def step_macs(self) -> int:
        """Multiply-accumulates of one image in a step, by the convention of `FORWARDS`."""
        return FORWARDS * self.macs + self.teacher_macs


class Steps:
    """Training steps on one batch of noise that stays on the device; a `compress.bench.backends.Timed`.

    On a GPU a time is that between two CUDA events on either side of a step, in a queue that is full.
    """

    device_ns = None

    def __init__(self, model: nn.Module, method: Any, resolved: Resolved, batch: int, device: str) -> None:
        assert resolved.input_size is not None
        assert resolved.num_classes is not None
        config = resolved.config
        self.model = model.to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.method, self.device, self.precision = method, device, config.precision
        self.optimizers = build_optimizers(self.model, method, config)
        self.criterion = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
        random = torch.Generator().manual_seed(0)
        x = torch.randn(batch, *resolved.input_size, generator=random)
        self.x = x.to(device).contiguous(memory_format=torch.channels_last)
        self.y = torch.randint(0, resolved.num_classes, (batch,), generator=random).to(device)
        method.begin_epoch(self.model, 0, config.epochs)

    def step(self) -> None:
        """Forward, loss, backward, optimizers: what the training loop does with a batch."""
        with self._autocast():
            outputs = self.model(self.x).float()
            loss = self.method.loss(self.model, self.x, outputs, self.y, self.criterion)
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def run(self, count: int) -> NDArray[np.int64]:
        """Take `count` steps; return the nanoseconds of each."""
        return self._on_gpu(count) if self.device == "cuda" else self._on_cpu(count)

    def _on_cpu(self, count: int) -> NDArray[np.int64]:
        taken = np.empty(count, dtype=np.int64)
        for i in range(count):
            start = time.perf_counter_ns()
            self.step()
            taken[i] = time.perf_counter_ns() - start
        return taken

    def _on_gpu(self, count: int) -> NDArray[np.int64]:
        for _ in range(LEAD_IN):
            self.step()
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
        marks[0].record()
        for mark in marks[1:]:
            self.step()
            mark.record()
        marks[-1].synchronize()
        times = [a.elapsed_time(b) for a, b in itertools.pairwise(marks)]
        return np.array([round(ms * 1e6) for ms in times], dtype=np.int64)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device, dtype=DTYPES[self.precision])


def variant(
    name: str,
    recipe: str,
    batch: int,
    *,
    device: str,
    precision: str,
    size: tuple[int, int, int] | None = None,
) -> Variant:
    """Make one of `VARIANTS` of the network of a recipe with a list of drop rates.

    Args:
        batch: images a step. size: of an image; None: the recipe's.
    """
    dense, narrow = costs_of(recipe, size)
    target = f"macs={narrow.macs / dense.macs:.4f}" if name in MASKED else None
    resolved, planned = _planned(name, recipe, precision, size, target)
    method = resolved.method(resolved.options)
    teacher = copy.deepcopy(planned.model).to(device) if method.teacher else None
    goal = float(narrow.macs)
    method.setup = Setup(resolved.config, 100, "macs", goal, "auto", teacher)
    torch.manual_seed(0)
    prepared = method.prepare(planned.model, planned.graph, planned.plan)
    steps = Steps(prepared.model, method, resolved, batch, device)
    wide = name in ("dense", *MASKED)
    return Variant(
        name=name,
        steps=steps,
        macs=dense.macs if wide else narrow.macs,
        teacher_macs=dense.macs if method.teacher else 0,
        deployed_macs=None if name in MASKED else dense.macs if wide else narrow.macs,
        params=sum(p.numel() for p in prepared.model.parameters() if p.requires_grad),
    )


@functools.cache
def costs_of(recipe: str, size: tuple[int, int, int] | None) -> tuple[Costs, Costs]:
    """Costs of the dense network of a recipe, and of the narrow one by its drop rates."""
    planned = _planned("scratch", recipe, "fp32", size)[1]
    return planned.graph.costs, planned.narrow


def _planned(
    method: str, recipe: str, precision: str, size: tuple[int, int, int] | None, target: str | None = None
) -> tuple[Resolved, Planned]:
    request = TrainRequest(
        method=method, recipe=recipe, target=target, input_size=size, settings={"precision": precision}
    )
    resolved = resolve(request)
    assert resolved.num_classes is not None
    assert resolved.input_size is not None
    return resolved, plan_training(resolved, resolved.num_classes, resolved.input_size)
