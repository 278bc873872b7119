"""The dense network of a training, its channel graph, and the plan of what is kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from compress import recipes
from compress.core.errors import CompressError, Exit
from compress.core.spec import SCHEMA_VERSION, Costs, ModelSpec
from compress.cost import dense_costs
from compress.data import check_class_count
from compress.graph import ChannelGraph, SlicePlan, trace
from compress.graph.placement import Placement
from compress.pipeline.request import ResolvedRequest, Size
from compress.pipeline.targets import plan_for_target
from compress.planning import make_plan
from compress.training.device import resolve_device


@dataclass(frozen=True)
class PlannedNetwork:
    """A dense network with its graph and plan.

    Attributes:
        model: the dense network.
        spec: how it is built.
        graph: its channel graph.
        plan: what is kept; None if nothing is cut.
        align: the alignment that the plan was made with.
    """

    model: nn.Module
    spec: ModelSpec
    graph: ChannelGraph
    plan: SlicePlan | None
    align: int

    @property
    def compact_costs(self) -> Costs:
        """Costs of the network that will be deployed."""
        return self.plan.narrow if self.plan is not None else dense_costs(self.graph)

    def planned(self, resolved: ResolvedRequest) -> PlannedNetwork:
        """Return the same network with a plan, made by its present weights.

        Raises:
            CompressError: (exit 2) a target out of reach, or drop rates of unknown layers.
        """
        plan, align = plan_for_request(self.graph, resolved)
        return replace(self, plan=plan, align=align)

    def summary(self, resolved: ResolvedRequest) -> dict[str, Any]:
        """Return the plan as numbers, for ``--dry-run --json``."""
        dense, compact = dense_costs(self.graph), self.compact_costs
        out: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "method": resolved.method.name,
            "model": self.spec.name,
            "target": resolved.target.text if resolved.target else None,
            "macs": compact.macs,
            "params": compact.params,
            "dense": dense.model_dump(),
            "mac_reduction": dense.macs / compact.macs,
            "align": self.align,
            "widths": {n: list(w) for n, w in self.plan.widths.items()} if self.plan else {},
            "protected": [vars(p) for p in self.graph.protected],
        }
        if resolved.recipe is not None and resolved.recipe.published is not None and resolved.drop:
            out["published"] = resolved.recipe.published.model_dump(exclude_none=True)
        return out


def build_network(resolved: ResolvedRequest, num_classes: int, input_size: Size) -> PlannedNetwork:
    """Build the dense network and trace it; nothing is cut yet.

    Raises:
        CompressError: unknown model, bad weights, a network that cannot be traced or reads other images, or
            (exit 2) ``model-object``: all its parameters are frozen.
    """
    torch.manual_seed(resolved.config.seed)
    model = resolved.model.build(
        num_classes, input_size, resolved.request.weights, resolved.request.reset_head
    )
    if not any(p.requires_grad for p in model.parameters()):
        raise CompressError(
            f"no parameter of {type(model).__name__} requires a gradient, so nothing can be trained",
            hint="unfreeze it with module.requires_grad_(True)",
            code="model-object",
        )
    spec = resolved.model.spec(num_classes, input_size)
    graph = trace_network(model, input_size, free_pads=resolved.method.free_pads)
    return PlannedNetwork(model, spec, graph, None, 1)


def plan_training(resolved: ResolvedRequest, num_classes: int, input_size: Size) -> PlannedNetwork:
    """Build the dense network, trace it and decide what is kept.

    Raises:
        CompressError: as `build_network`; a target out of reach.
    """
    return build_network(resolved, num_classes, input_size).planned(resolved)


def trace_network(model: nn.Module, input_size: Size, *, free_pads: bool = False) -> ChannelGraph:
    """Trace a network for images of `input_size`.

    Raises:
        CompressError: (exit 2) ``input-channels``: the network reads another number of channels; or as
            `compress.trace`.
    """
    example = torch.rand((2, *input_size), generator=torch.Generator().manual_seed(0))
    try:
        return trace(model, example, free_pads=free_pads)
    except CompressError as error:
        first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
        if error.exit != Exit.BUILD or first is None or first.in_channels == input_size[0]:
            raise
        c, h, w = first.in_channels, *input_size[1:]
        gray = f"give --input-size {c},{h},{w}, which repeats gray images to {c} channels, or "
        raise CompressError(
            f"{type(model).__name__} reads images of {c} channels, the data have {input_size[0]}",
            hint=f"{gray if input_size[0] == 1 else ''}choose a data set whose images have {c} channels",
            code="input-channels",
            details={"model": c, "data": input_size[0]},
        ) from error


def plan_for_request(graph: ChannelGraph, resolved: ResolvedRequest) -> tuple[SlicePlan | None, int]:
    """Return what is kept, and the alignment of its widths; None if the method cuts nothing.

    Raises:
        CompressError: (exit 2) a target out of reach, or drop rates of unknown layers.
    """
    method, seed = resolved.method, resolved.config.seed
    if not method.needs_target:
        return None, 1
    if resolved.drop:
        kept = recipes.widths_from_drop_rates(graph, resolved.drop)
        return make_plan(graph, keep=kept, criterion=method.criterion, seed=seed), 1
    assert resolved.target is not None
    whole = resolved.options.residual == "keep" and not method.learns_plan
    return plan_for_target(
        graph,
        resolved.target,
        resolved.request.align,
        method.criterion,
        seed,
        whole=Placement(graph).streams if whole else (),
    )


def plan_request(resolved: ResolvedRequest) -> PlannedNetwork:
    """Plan a training for ``--dry-run``; the data set is read only if the shapes are not given.

    Raises:
        CompressError: as `plan_training`; ``no-device``, ``precision``.
    """
    resolve_device(resolved.config)
    if resolved.num_classes is not None and resolved.input_size is not None:
        return plan_training(resolved, resolved.num_classes, resolved.input_size)
    info = resolved.load_data().info
    return plan_training(resolved, check_class_count(resolved.num_classes, info), info.preprocess.input_size)
