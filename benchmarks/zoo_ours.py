"""One network of the zoo through this toolchain: trace, plan half of the MACs, slice, compare, train."""

from __future__ import annotations

import copy
import time
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

import compress
from compress.core.errors import CompressError
from compress.graph import ChannelGraph, SlicePlan
from compress.planning import make_plan
from compress.slicing import VerifyReport, flatten, verify

from .networks import Network, build, images

FLOAT64_TOLERANCE = 1e-9
"""Where a network amplifies rounding past the float32 tolerance, it is compared in float64, this tightly."""


def examine(network: Network) -> dict[str, Any]:
    """Everything the report says about a network: costs, reach, error, times, what is protected."""
    model, batch = build(network), images(network, 2)
    start = time.perf_counter()
    graph = compress.trace(model, batch)
    traced = time.perf_counter()
    plan, reached = halved(graph)
    planned = time.perf_counter()
    narrow = compress.slice_model(model, plan)
    sliced = time.perf_counter()
    report, double = exactness(model, plan, narrow, batch)
    smallest = plan if not reached else make_plan(graph, keep=1e-9, criterion="random", _check=False)
    return {
        "trace_s": round(traced - start, 2),
        "plan_s": round(planned - traced, 2),
        "slice_s": round(sliced - planned, 2),
        "groups": len(graph.groups),
        "macs": plan.dense.macs,
        "cuttable": round(1 - smallest.narrow.macs / plan.dense.macs, 4),
        "smallest_macs": smallest.narrow.macs,
        "reached_half": reached,
        "narrow_macs": plan.narrow.macs,
        "macs_ratio": round(plan.narrow.macs / plan.dense.macs, 4),
        "rewritten_operators": len(plan.rewrites),
        "error": report.max_rel,
        "error_float64": double.max_rel if double else None,
        "exact": (double or report).passed,
        "sensitivity": sensitivity(model, plan, batch),
        "gradients": missing_gradients(model, narrow, images(network, 4)) == [],
        "half_channels": half_channels(graph, model, batch),
        "protected": protected(graph),
    }


def half_channels(graph: ChannelGraph, model: nn.Module, batch: Tensor) -> dict[str, Any]:
    """The plan that Torch-Pruning gets: half the channels of every group, at random."""
    plan = make_plan(graph, keep=0.5, criterion="random")
    report, double = exactness(model, plan, compress.slice_model(model, plan), batch)
    return {
        "macs_ratio": round(plan.narrow.macs / plan.dense.macs, 4),
        "error": report.max_rel,
        "exact": (double or report).passed,
    }


def halved(graph: ChannelGraph) -> tuple[SlicePlan, bool]:
    """A plan with half of the MACs, or with the fewest that can be reached; and whether half was."""
    try:
        plan = make_plan(graph, macs=0.5, criterion="random")
    except CompressError as error:
        if error.code != "target-unreachable":
            raise
        return make_plan(graph, keep=1e-9, criterion="random"), False
    return plan, plan.narrow.macs <= 0.51 * plan.dense.macs


def exactness(
    model: nn.Module, plan: SlicePlan, narrow: nn.Module, batch: Tensor
) -> tuple[VerifyReport, VerifyReport | None]:
    """The difference in float32; and in float64 where float32 alone cannot tell.

    Raises:
        CompressError: the outputs' shapes differ.
    """
    report = verify(model, plan, narrow, batch)
    if report.passed:
        return report, None
    wide = copy.deepcopy(model).double(), copy.deepcopy(narrow).double()
    return report, verify(wide[0], plan, wide[1], batch.double(), tolerance=FLOAT64_TOLERANCE)


def sensitivity(model: nn.Module, plan: SlicePlan, batch: Tensor) -> float:
    """How much the output changes when the dropped channels are zeroed, relative to the largest output.

    Far above the tolerance, or the comparison would not see a wrong channel.
    """
    with torch.no_grad():
        dense = flatten(model(batch))[0]
        masked = flatten(compress.mask_model(model, plan)(batch))[0]
    return float((dense - masked).abs().max() / dense.abs().max())


def missing_gradients(model: nn.Module, narrow: nn.Module, batch: Tensor) -> list[str]:
    """Parameters with a gradient in the dense network (in train mode) and none in the narrow one."""
    with_gradient = []
    for net in (model, narrow):
        net.train()
        net.zero_grad(set_to_none=True)
        torch.autograd.backward([out.square().mean() for out in flatten(net(batch))])
        with_gradient.append({name for name, p in net.named_parameters() if p.grad is not None})
        net.zero_grad(set_to_none=True)
        net.eval()
    return sorted(with_gradient[0] - with_gradient[1])


def protected(graph: ChannelGraph) -> list[dict[str, Any]]:
    """What is never cut: the reasons, with how many channels and layers each one holds."""
    channels: Counter[str] = Counter()
    layers: Counter[str] = Counter()
    for item in graph.protected:
        channels[item.why] += item.width
        layers[item.why] += 1
    return [{"why": why, "channels": n, "layers": layers[why]} for why, n in channels.most_common()]
