"""Check whether a network's own forward code runs with narrow parameters, or a traced copy is needed."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from compress.graph import ChannelGraph, SlicePlan
from compress.graph.cut import plain as plain_arguments
from compress.graph.slice_plan import FOLD
from compress.slicing import RELATIVE_TOLERANCE, apply_plan, difference, mask_model, outputs, slice_model


def with_needed_rewrites(graph: ChannelGraph, plan: SlicePlan) -> SlicePlan:
    """Return the plan with the rewrites it needs; none if the model's own code computes the same.

    A module may reject narrow parameters although its operators need no rewrite: multi-head attention
    compares a width with a stored number. The traced copy, which has no such checks, is then used instead.
    """
    if any(target == FOLD for target, _ in plan.rewrites.values()):
        return plan
    plain = replace(plan, rewrites={})
    if not plan.kept or (not plan.rewrites and _runs(graph, plain)):
        return plain
    return (
        plain if _computes(graph, plain) else plan if plan.rewrites else replace(plan, rewrites=_copy(graph))
    )


def _runs(graph: ChannelGraph, plan: SlicePlan) -> bool:
    """Return whether the narrow module runs on the meta device (shapes only)."""
    try:
        blank = {id(t): _blank(t) for t in (*graph.model.parameters(), *graph.model.buffers())}
        narrow = apply_plan(copy.deepcopy(graph.model, dict(blank)), plan).eval()
        with torch.no_grad():
            narrow(*(x.to("meta") if isinstance(x, Tensor) else x for x in graph.inputs))
    except Exception:  # whatever a user's own code raises
        return False
    return True


def _blank(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta")
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _computes(graph: ChannelGraph, plan: SlicePlan) -> bool:
    """Return whether the narrow module and the masked dense one have the same outputs."""
    # The large weights are only read: one copy of them at a time, for the masked network.
    dense = copy.deepcopy(graph.model, {id(p): p for p in graph.model.parameters() if p.dim() > 1})
    _perturb(dense)
    try:
        actual = outputs(slice_model(dense, plan), graph.inputs)
        expected = outputs(mask_model(dense, plan), graph.inputs)
        return difference(expected, actual, 1, RELATIVE_TOLERANCE).passed
    except Exception:  # whatever a user's own code raises
        return False


def _perturb(model: nn.Module) -> None:
    """Give biases and norms values that matter, so that a wrong channel shows in the output."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.dim() == 1 and tensor.is_floating_point():
                noise = torch.rand(tensor.shape, generator=generator).to(tensor)
                if "var" in name.rsplit(".", 1)[-1] or name.endswith("weight"):
                    tensor.copy_(0.5 + noise)
                else:
                    tensor.copy_(0.2 * (noise - 0.5))


def _copy(graph: ChannelGraph) -> dict[str, list[object]]:
    """A rewrite that changes nothing, for a plan that needs the traced copy all the same."""
    node = next(
        n for n in graph.program.graph.nodes if n.op == "call_function" and hasattr(n.target, "_schema")
    )
    return {node.name: [str(node.target), plain_arguments(node.args)]}


__all__ = ["with_needed_rewrites"]
