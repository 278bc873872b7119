"""Variants of a network in training (dense, compact from scratch, DCFF, KDFS, ABP), and a step of each."""

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
from compress.cost import dense_costs
from compress.methods import Setup
from compress.pipeline import PlannedNetwork, ResolvedRequest, TrainRequest, plan_training, resolve
from compress.training.optim import build_optimizers

VARIANTS = {
    "dense": "the dense network",
    "scratch": "the compact network from scratch, at the recipe's widths",
    "dcff": "the same compact network with fused filters; the coding once per epoch is not part of a step",
    "kdfs": "during the search: the dense network with sampled masks, and the teacher's forward pass",
    "abp": "during the search: the dense network with binary gates",
}
"""The variants. In the last epochs of kdfs and abp the masks are fixed, which costs about the same."""

MASKED = ("kdfs", "abp")
FORWARDS = 3
"""A step counts as three forward passes: the gradients of inputs and of weights are the other two."""

LEAD_IN = 3
"""Untimed steps that fill the queue of a GPU."""


@dataclass(frozen=True)
class Variant:
    """One variant of a network, ready for training steps.

    Attributes:
        macs: of the trained network, for the forward pass of one image.
        teacher_macs: the same of the teacher; 0 without one.
        deployed_macs: of the resulting network; None if the search decides.
        params: number of trained parameters.
    """

    name: str
    steps: Steps
    macs: int
    teacher_macs: int
    deployed_macs: int | None
    params: int

    @property
    def step_macs(self) -> int:
        """Multiply-accumulates of one image in a step; see `FORWARDS`."""
        return FORWARDS * self.macs + self.teacher_macs


class Steps:
    """Training steps on one random batch on the device; implements `compress.bench.backends.Timed`.

    On a GPU, a step is timed between two CUDA events while the queue is full.
    """

    device_ns = None

    def __init__(
        self, model: nn.Module, method: Any, resolved: ResolvedRequest, batch: int, device: str
    ) -> None:
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
        """Run forward, loss, backward and optimizers, as the training loop does."""
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
    """Build one of `VARIANTS` for the network of a recipe that has drop rates.

    Args:
        batch: images per step. size: of an image; None: the recipe's.
    """
    dense, narrow = costs_of(recipe, size)
    target = f"macs={narrow.macs / dense.macs:.4f}" if name in MASKED else None
    resolved, planned = _planned(name, recipe, precision, size, target)
    has_teacher = resolved.method.uses_teacher
    setup = Setup(
        model=planned.model,
        graph=planned.graph,
        plan=planned.plan,
        config=resolved.config,
        steps_per_epoch=100,
        cost="macs",
        budget=float(narrow.macs),
        teacher=copy.deepcopy(planned.model).to(device) if has_teacher else None,
    )
    torch.manual_seed(0)
    method = resolved.method(resolved.options, setup)
    steps = Steps(method.model, method, resolved, batch, device)
    wide = name in ("dense", *MASKED)
    return Variant(
        name=name,
        steps=steps,
        macs=dense.macs if wide else narrow.macs,
        teacher_macs=dense.macs if has_teacher else 0,
        deployed_macs=None if name in MASKED else dense.macs if wide else narrow.macs,
        params=sum(p.numel() for p in method.model.parameters() if p.requires_grad),
    )


@functools.cache
def costs_of(recipe: str, size: tuple[int, int, int] | None) -> tuple[Costs, Costs]:
    """Return the costs of a recipe's dense network and of its compact network."""
    planned = _planned("scratch", recipe, "fp32", size)[1]
    return dense_costs(planned.graph), planned.compact_costs


def _planned(
    method: str, recipe: str, precision: str, size: tuple[int, int, int] | None, target: str | None = None
) -> tuple[ResolvedRequest, PlannedNetwork]:
    request = TrainRequest(
        method=method, recipe=recipe, target=target, input_size=size, settings={"precision": precision}
    )
    resolved = resolve(request)
    assert resolved.num_classes is not None
    assert resolved.input_size is not None
    return resolved, plan_training(resolved, resolved.num_classes, resolved.input_size)
