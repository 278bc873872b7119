"""The plan of a training: the dense network, its channel graph, and what will be kept."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from compress import models, recipes
from compress.core.errors import CompressError
from compress.core.spec import SCHEMA_VERSION, Costs, ModelSpec
from compress.graph import ChannelGraph, Criterion, SlicePlan, trace
from compress.graph.placement import Placement
from compress.pipeline.request import Resolved, Size
from compress.planning.choose import TOLERANCE

ALIGNMENTS = (8, 4, 2, 1)
"""Widths that `align="auto"` tries, the widest first: vector units and tensor cores like multiples of 8."""


@dataclass(frozen=True)
class Planned:
    """A dense network with its graph and plan.

    Attributes:
        align: the alignment the plan was made with.
    """

    model: nn.Module
    spec: ModelSpec
    graph: ChannelGraph
    plan: SlicePlan | None
    align: int

    @property
    def narrow(self) -> Costs:
        """Costs of the network that will be deployed."""
        return self.plan.narrow if self.plan is not None else self.graph.costs

    def summary(self, resolved: Resolved) -> dict[str, Any]:
        """The plan as numbers, for ``--dry-run --json``."""
        dense, narrow = self.graph.costs, self.narrow
        out: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "method": resolved.method.name,
            "model": self.spec.name,
            "target": resolved.target,
            "macs": narrow.macs,
            "params": narrow.params,
            "dense": dense.model_dump(),
            "mac_reduction": dense.macs / narrow.macs,
            "align": self.align,
            "widths": {n: list(w) for n, w in self.plan.widths.items()} if self.plan else {},
            "protected": [vars(p) for p in self.graph.protected],
        }
        if resolved.recipe is not None and resolved.recipe.published is not None and resolved.drop:
            out["published"] = resolved.recipe.published.model_dump(exclude_none=True)
        return out


def parse_target(text: str) -> tuple[str, float]:
    """`"macs=0.5"` or `"params=1.2M"` as a kind and a number (at most 1: a fraction of the dense network).

    Raises:
        CompressError: (exit 2) another kind, or not a positive number.
    """
    kind, _, number = text.partition("=")
    scale = {"K": 1e3, "M": 1e6, "G": 1e9}.get(number[-1:].upper(), 1.0)
    try:
        value = float(number[:-1] if scale != 1 else number) * scale
    except ValueError:
        value = math.nan
    if kind not in ("macs", "params") or not math.isfinite(value) or value <= 0:
        raise CompressError(
            f"the target {text!r} is not understood",
            code="bad-target",
            hint="write macs=0.5 or params=0.4 (a fraction of the dense network), or a number: macs=60M",
        )
    return kind, value


def plan_training(resolved: Resolved, num_classes: int, input_size: Size) -> Planned:
    """Build the dense network, trace it and decide what is kept.

    Raises:
        CompressError: unknown model, bad weights, a network that cannot be traced, a target out of reach.
    """
    torch.manual_seed(resolved.config.seed)
    model = models.build(resolved.model, num_classes, input_size, resolved.request.weights)
    spec = models.model_spec(resolved.model, num_classes, input_size)
    example = torch.rand((2, *input_size), generator=torch.Generator().manual_seed(0))
    graph = trace(model, example, free_pads=resolved.method.free_pads)
    if not resolved.method.narrows:
        return Planned(model, spec, graph, None, 1)
    if resolved.drop:
        kept = recipes.widths_from_drop_rates(graph, resolved.drop)
        plan = graph.plan(keep=kept, criterion=resolved.method.criterion, seed=resolved.config.seed)
        return Planned(model, spec, graph, plan, 1)
    assert resolved.target is not None
    keeps = resolved.options.residual == "keep"
    plan, align = plan_for_target(
        graph,
        resolved.target,
        resolved.request.align,
        resolved.method.criterion,
        resolved.config.seed,
        whole=Placement(graph).streams if keeps and not resolved.method.chooses else (),
    )
    return Planned(model, spec, graph, plan, align)


def plan_for_target(
    graph: ChannelGraph,
    target: str,
    align: str = "auto",
    criterion: Criterion = "window",
    seed: int = 0,
    whole: Collection[str] = (),
) -> tuple[SlicePlan, int]:
    """A plan that meets a target within 1%, and its alignment: the widest that does, for `auto`.

    The groups named in `whole` are not cut.

    Raises:
        CompressError: (exit 2) the target cannot be met, with what can.
    """
    kind, goal = parse_target(target)
    tried = ALIGNMENTS if align == "auto" else (_alignment(align),)
    nearest = math.inf
    for width in tried:
        plan = _attempt(graph, kind, goal, width, criterion, seed, whole, last=width == tried[-1])
        if plan is None:
            continue
        dense, narrow = getattr(plan.dense, kind), getattr(plan.narrow, kind)
        wanted = goal * dense if goal <= 1 else goal
        if abs(narrow - wanted) <= TOLERANCE * wanted:
            return plan, width
        nearest = min(nearest, narrow / dense, key=lambda share: abs(share * dense - wanted))
    raise CompressError(
        f"the target {target} cannot be met within 1%: the nearest is {kind}={nearest:.4g}",
        code="target-missed",
        hint="give another target" if tried[-1] == 1 else "use --align auto, or a smaller number",
        details={"nearest": nearest},
    )


def _attempt(
    graph: ChannelGraph,
    kind: str,
    goal: float,
    align: int,
    criterion: Criterion,
    seed: int,
    whole: Collection[str],
    last: bool,
) -> SlicePlan | None:
    """A plan, or None where a coarse alignment cannot get low enough but a finer one may."""
    try:
        if kind == "macs":
            return graph.plan(macs=goal, align=align, criterion=criterion, seed=seed, whole=whole)
        return graph.plan(params=goal, align=align, criterion=criterion, seed=seed, whole=whole)
    except CompressError as error:
        if error.code != "target-unreachable":
            raise
        if not last:
            return None
        finer = " with this alignment; --align auto may get lower" if align > 1 else ""
        hint = f"the smallest reachable is {kind}={_round_up(error.details['smallest']):g}{finer}"
        raise CompressError(error.message, hint=hint, code=error.code, details=error.details) from error


def _round_up(share: float) -> float:
    """To four significant digits, so that a target of it can be met."""
    scale = 10.0 ** (3 - math.floor(math.log10(share)))
    return math.ceil(share * scale) / scale


def _alignment(text: str) -> int:
    if text == "none":
        return 1
    if not text.isdecimal() or int(text) < 1:
        raise CompressError(
            f"the alignment {text!r} is not understood",
            hint="auto, none, or a number such as 8",
            code="bad-align",
        )
    return int(text)
