"""Evaluation of one zoo network with compress: tracing, a plan with half of the MACs, and exact slicing."""

from __future__ import annotations

import copy
import time
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

import compress
from compress.core.errors import CompressError
from compress.cost import cost_model
from compress.graph import ChannelGraph, SlicePlan
from compress.planning import make_plan, narrowest_mask
from compress.slicing import VerifyReport, flatten, verify

from .networks import Network, build, images

FLOAT64_TOLERANCE = 1e-9
"""Relative tolerance in float64, used for networks whose rounding errors exceed the float32 tolerance."""


def evaluate_network(network: Network) -> dict[str, Any]:
    """Return a network's row of the record: costs, smallest size, error, times and protected channels."""
    model, batch = build(network), images(network, 2)
    start = time.perf_counter()
    graph = compress.trace(model, batch)
    traced = time.perf_counter()
    plan, reached = plan_half_macs(graph)
    planned = time.perf_counter()
    compact = compress.slice_model(model, plan)
    sliced = time.perf_counter()
    report, double = verify_slice(model, plan, compact, batch)
    smallest_macs = cost_model(graph).costs(narrowest_mask(graph)).macs if reached else plan.narrow.macs
    return {
        "trace_s": round(traced - start, 2),
        "plan_s": round(planned - traced, 2),
        "slice_s": round(sliced - planned, 2),
        "groups": len(graph.groups),
        "macs": plan.dense.macs,
        "cuttable": round(1 - smallest_macs / plan.dense.macs, 4),
        "smallest_macs": smallest_macs,
        "reached_half": reached,
        "narrow_macs": plan.narrow.macs,
        "macs_ratio": round(plan.narrow.macs / plan.dense.macs, 4),
        "rewritten_operators": len(plan.rewrites),
        "error": report.max_rel,
        "error_float64": double.max_rel if double else None,
        "exact": (double or report).passed,
        "sensitivity": sensitivity(model, plan, batch),
        "gradients": missing_gradients(model, compact, images(network, 4)) == [],
        "half_channels": half_channels(graph, model, batch),
        "protected": protected_channels(graph),
    }


def half_channels(graph: ChannelGraph, model: nn.Module, batch: Tensor) -> dict[str, Any]:
    """Return cost and error of the plan Torch-Pruning gets: half the channels of every group, at random."""
    plan = make_plan(graph, keep=0.5, criterion="random")
    report, double = verify_slice(model, plan, compress.slice_model(model, plan), batch)
    return {
        "macs_ratio": round(plan.narrow.macs / plan.dense.macs, 4),
        "error": report.max_rel,
        "exact": (double or report).passed,
    }


def plan_half_macs(graph: ChannelGraph) -> tuple[SlicePlan, bool]:
    """Return a plan with half of the MACs, or with the fewest possible, and whether it reaches half."""
    try:
        plan = make_plan(graph, macs=0.5, criterion="random")
    except CompressError as error:
        if error.code != "target-unreachable":
            raise
        return make_plan(graph, keep=1e-9, criterion="random"), False
    return plan, plan.narrow.macs <= 0.51 * plan.dense.macs


def verify_slice(
    model: nn.Module, plan: SlicePlan, compact: nn.Module, batch: Tensor
) -> tuple[VerifyReport, VerifyReport | None]:
    """Return the comparison in float32 and, if it fails, the one in float64 (else None).

    Raises:
        CompressError: the outputs' shapes differ.
    """
    report = verify(model, plan, compact, batch)
    if report.passed:
        return report, None
    dense64, compact64 = copy.deepcopy(model).double(), copy.deepcopy(compact).double()
    return report, verify(dense64, plan, compact64, batch.double(), tolerance=FLOAT64_TOLERANCE)


def sensitivity(model: nn.Module, plan: SlicePlan, batch: Tensor) -> float:
    """Return how much zeroing the removed channels changes the output, relative to the largest output.

    Must be far above the tolerance; otherwise the comparison could not detect a wrong channel.
    """
    with torch.no_grad():
        dense = flatten(model(batch))[0]
        masked = flatten(compress.mask_model(model, plan)(batch))[0]
    return float((dense - masked).abs().max() / dense.abs().max())


def missing_gradients(model: nn.Module, compact: nn.Module, batch: Tensor) -> list[str]:
    """Return the parameters with a gradient in the dense model (in train mode) but not in the compact one."""
    with_gradient = []
    for net in (model, compact):
        net.train()
        net.zero_grad(set_to_none=True)
        torch.autograd.backward([out.square().mean() for out in flatten(net(batch))])
        with_gradient.append({name for name, p in net.named_parameters() if p.grad is not None})
        net.zero_grad(set_to_none=True)
        net.eval()
    return sorted(with_gradient[0] - with_gradient[1])


def protected_channels(graph: ChannelGraph) -> list[dict[str, Any]]:
    """Return the reasons for protected channels, with the number of channels and layers of each."""
    channels: Counter[str] = Counter()
    layers: Counter[str] = Counter()
    for item in graph.protected:
        channels[item.why] += item.width
        layers[item.why] += 1
    return [{"why": why, "channels": n, "layers": layers[why]} for why, n in channels.most_common()]
