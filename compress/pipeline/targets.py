"""Cost targets: how they are written, and the plan that meets one."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from compress.core.errors import CompressError
from compress.core.spec import Costs
from compress.graph import ChannelGraph, SlicePlan
from compress.planning import make_plan
from compress.planning.selection import TOLERANCE

ALIGNMENTS = (8, 4, 2, 1)
"""Widths that `align="auto"` tries, the widest first: vector units and tensor cores prefer multiples of 8."""

SPEEDUP_NOTE = (
    "speedup={value:g} is planned as {value:g}x fewer MACs; the measured speed-up is usually smaller: "
    "compare it with `compress bench RUN`"
)


@dataclass(frozen=True)
class Target:
    """A limit on a cost.

    Attributes:
        text: as it was written, such as ``macs=0.5``.
        cost: the cost that is limited, ``macs`` or ``params``.
        value: at most 1: a fraction of the dense network's cost; above 1: an absolute number.
        note: what the user should know about it; empty for none.
    """

    text: str
    cost: str
    value: float
    note: str = ""

    def budget(self, dense: Costs) -> float:
        """Return the limit as an absolute number."""
        return self.value * float(getattr(dense, self.cost)) if self.value <= 1 else self.value


def parse_target(text: str) -> Target:
    """Return the target that a text describes.

    Args:
        text: ``macs=0.5``, ``macs=50%``, ``params=0.4`` (fractions of the dense network), ``macs=60M``,
            ``params=1.2M`` (absolute numbers), or ``speedup=2``, which is planned as 2 times fewer MACs.

    Raises:
        CompressError: (exit 2) ``bad-target``: another cost, or not a positive number.
    """
    cost, _, number = text.strip().partition("=") if isinstance(text, str) else ("", "", "")
    value = _parse_number(number)
    if cost == "speedup" and value >= 1 and math.isfinite(value):
        return Target(text, "macs", 1 / value, SPEEDUP_NOTE.format(value=value))
    if cost not in ("macs", "params") or not math.isfinite(value) or value <= 0:
        raise CompressError(
            f"invalid target {text!r}: {_target_rule(cost)}",
            code="bad-target",
            hint="write macs=0.5 or macs=50% or params=0.4 (a fraction of the dense network), macs=60M "
            "(a number), or speedup=2",
        )
    return Target(text, cost, value)


def _target_rule(cost: str) -> str:
    """Return what a target of this cost must satisfy."""
    if cost == "speedup":
        return "the speed-up must be a number of at least 1"
    if cost in ("macs", "params"):
        return "the limit must be a positive number, or a percentage of at most 100%"
    return "it must limit macs, params or speedup"


def _parse_number(text: str) -> float:
    """Parse a number such as ``0.5``, ``50%``, ``60M`` or ``2x``; NaN if it is none."""
    text = text.strip()
    scale = {"%": 0.01, "K": 1e3, "M": 1e6, "G": 1e9, "X": 1.0}.get(text[-1:].upper())
    try:
        value = float(text if scale is None else text[:-1]) * (1.0 if scale is None else scale)
    except ValueError:
        return math.nan
    return math.nan if text.endswith("%") and value > 1 else value


def plan_for_target(
    graph: ChannelGraph,
    target: Target | str,
    align: str = "auto",
    criterion: str = "window",
    seed: int = 0,
    whole: Collection[str] = (),
) -> tuple[SlicePlan, int]:
    """Return a plan that meets a target within 1%, and its alignment: the widest that does, for `auto`.

    The groups named in `whole` are not cut.

    Raises:
        CompressError: (exit 2) the target cannot be met, with the nearest that can.
    """
    if isinstance(target, str):
        target = parse_target(target)
    alignments = ALIGNMENTS if align == "auto" else (_parse_alignment(align),)
    nearest = math.inf
    for alignment in alignments:
        plan = _plan_aligned(
            graph, target, alignment, criterion, seed, whole, last=alignment == alignments[-1]
        )
        if plan is None:
            continue
        dense, reached = getattr(plan.dense, target.cost), getattr(plan.narrow, target.cost)
        limit = target.value * dense if target.value <= 1 else target.value
        if abs(reached - limit) <= TOLERANCE * limit:
            return plan, alignment
        nearest = min(nearest, reached / dense, key=lambda share: abs(share * dense - limit))
    raise CompressError(
        f"the target {target.text} cannot be met within 1%: the nearest is {target.cost}={nearest:.4g}",
        code="target-missed",
        hint="give another target" if alignments[-1] == 1 else "use --align auto, or a smaller number",
        details={"nearest": nearest},
    )


def _plan_aligned(
    graph: ChannelGraph,
    target: Target,
    align: int,
    criterion: str,
    seed: int,
    whole: Collection[str],
    last: bool,
) -> SlicePlan | None:
    """Return a plan, or None where a coarse alignment cannot get low enough but a finer one may."""
    try:
        if target.cost == "macs":
            return make_plan(
                graph, macs=target.value, align=align, criterion=criterion, seed=seed, whole=whole
            )
        return make_plan(graph, params=target.value, align=align, criterion=criterion, seed=seed, whole=whole)
    except CompressError as error:
        if error.code != "target-unreachable":
            raise
        if not last:
            return None
        finer = " with this alignment; --align auto may get lower" if align > 1 else ""
        smallest = _round_up(error.details["smallest"])
        hint = f"the smallest possible target is {target.cost}={smallest:g}{finer}"
        raise CompressError(error.message, hint=hint, code=error.code, details=error.details) from error


def _round_up(share: float) -> float:
    """Round up to four significant digits, so that a target of it can be met."""
    scale = 10.0 ** (3 - math.floor(math.log10(share)))
    return math.ceil(share * scale) / scale


def _parse_alignment(text: str) -> int:
    if text == "none":
        return 1
    if not text.isdecimal() or int(text) < 1:
        raise CompressError(
            f"invalid alignment {text!r}",
            hint="give --align auto, none, or a number such as 8",
            code="bad-align",
        )
    return int(text)
