"""Attribute the loss of a row to its causes, each with its share of the loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from compress.bench.explain.loss import Loss, RowCost
from compress.bench.explain.microbenchmarks import ALIGNMENTS, LayerTiming
from compress.bench.explain.record import Cause, Part

MIN_GAIN = 0.03
"""A width counts as faster per MAC if it is by this share plus the spreads of both timings."""

NEAR = 1.5
"""A width counts as near if its MACs are within this factor of the layer's."""

NEAR_PEAK = 0.5
"""A layer is memory-bound if it moves its bytes at between this share and all of the measured bandwidth; a
higher rate means that they come from a cache."""

MS_PER_NS = 1e-6


@dataclass(frozen=True)
class Limits:
    """Limits of the machine and the back end.

    Attributes:
        macs_per_ms, bytes_per_ms: the roofline.
        node_ms: cost of a node that computes almost nothing.
    """

    macs_per_ms: float
    bytes_per_ms: float
    node_ms: float

    @property
    def ridge(self) -> float:
        """MACs per byte above which arithmetic is the limit."""
        return self.macs_per_ms / self.bytes_per_ms


@dataclass(frozen=True)
class Evidence:
    """Measurements of a row.

    Attributes:
        kind: see `compress.bench.explain.record.Row`.
        cost: times in milliseconds, and MACs.
        loss: lost time in milliseconds.
        noise_ms: losses up to this are within the noise.
        moved: bytes that the compact layer moves.
        nodes: nodes of the runtime, dense and compact.
        kernels: kernels of the runtime, dense and compact.
        timings: the layer alone at several widths, see
            `compress.bench.explain.microbenchmarks.alternative_widths`; for a pool, the preceding layer.
        uncut: description of the widths of a layer that were not reduced.
    """

    kind: str
    cost: RowCost
    loss: Loss
    noise_ms: float = 0.0
    moved: int = 0
    nodes: tuple[int, int] = (1, 1)
    kernels: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    timings: Mapping[str, LayerTiming] = field(default_factory=dict)
    uncut: str = ""


@dataclass(frozen=True)
class BetterWidth:
    """The nearest widths that are faster per MAC.

    Attributes:
        text: the widths, such as ``32 or 40``.
        share: share of the layer's time that the best of them saves.
        why: the measurement behind it.
    """

    text: str
    share: float
    why: str


def attribute_loss(row: Evidence, limits: Limits) -> tuple[tuple[Part, ...], BetterWidth | None]:
    """Return the causes of a row's loss, the largest first, and the better width if that is a cause.

    The parts add up to the loss.
    """
    better = None
    if row.kind == "layer":
        parts, better = _attribute_layer(row, limits)
    elif row.kind == "conversion":
        parts = [Part(cause=Cause.CONVERSION, ms=row.loss.own, why=_node_counts(row))]
    elif row.kind == "scatter":
        parts = [Part(cause=Cause.SCATTER, ms=row.loss.own, why=_node_counts(row))]
    elif row.kind == "call":
        parts = [Part(cause=Cause.LAUNCH, ms=row.loss.own, why="a call costs the same for any network size")]
    else:
        parts, better = _attribute_other(row)
    if row.loss.mix:
        parts.append(_mix_part(row))
    nonzero = [part for part in parts if part.ms] or parts[:1]
    return tuple(sorted(nonzero, key=lambda part: -abs(part.ms))), better


def _attribute_layer(row: Evidence, limits: Limits) -> tuple[list[Part], BetterWidth | None]:
    own, cost = row.loss.own, row.cost
    if abs(own) <= row.noise_ms:
        return [Part(cause=Cause.NOISE, ms=own, why=f"within the noise of {row.noise_ms:.3f} ms")], None
    if own < 0:
        return [Part(cause=Cause.GAIN, ms=own, why="its time fell more than its MACs")], None
    better = better_width(row.timings)
    share = cost.share or 0.0
    candidates = []
    if better is not None:
        candidates.append((Cause.MISALIGNED, cost.compact * better.share, better.why))
    extra = limits.node_ms * (row.nodes[1] - share * row.nodes[0])
    if extra > 0.1 * own:
        count = "1 node" if row.nodes[1] == 1 else f"{row.nodes[1]} nodes"
        why = f"{count} at {limits.node_ms * 1e3:.1f} us or more, of {cost.compact * 1e3:.0f} us"
        candidates.append((Cause.LAUNCH, extra, why))
    intensity = cost.compact_macs / max(row.moved, 1)
    memory_ms = row.moved / limits.bytes_per_ms
    if intensity < limits.ridge and NEAR_PEAK <= memory_ms / max(cost.compact, 1e-12) <= 1:
        why = (
            f"{intensity:.1f} MACs per byte, below the ridge point of {limits.ridge:.1f}; "
            f"moving its bytes takes {memory_ms:.3f} of its {cost.compact:.3f} ms"
        )
        candidates.append((Cause.MEMORY, memory_ms - cost.dense * share, why))
    narrow = _narrow_cause(row, better)
    if narrow is not None:
        candidates.append(narrow)
    parts, rest = [], own
    for cause, amount, why in candidates:
        part_ms = min(max(amount, 0.0), rest)
        if part_ms > 0:
            parts.append(Part(cause=cause, ms=part_ms, why=why))
            rest -= part_ms
    if rest > 0:
        parts.append(_remaining_part(row, rest))
    return parts, better


def _remaining_part(row: Evidence, rest: float) -> Part:
    """Attribute what no measured limit accounts for to noise, another kernel, or nothing known."""
    dense, compact = row.kernels
    if rest <= row.noise_ms:
        return Part(cause=Cause.NOISE, ms=rest, why=f"within the noise of {row.noise_ms:.3f} ms")
    if dense != compact:
        why = f"{' + '.join(compact)} instead of {' + '.join(dense)}"
        return Part(cause=Cause.KERNEL, ms=rest, why=why)
    return Part(cause=Cause.UNEXPLAINED, ms=rest, why="")


def better_width(timings: Mapping[str, LayerTiming]) -> BetterWidth | None:
    """Return the nearest aligned widths that are better than a layer's own, or None if none is.

    A width is better if it is near and clearly faster per MAC, or if it is larger and not slower.
    """
    own = timings.get("own")
    if own is None:
        return None
    winners = [
        other for name, other in timings.items() if _is_aligned(name, other, own) and _is_better(other, own)
    ]
    if not winners:
        return None
    best = min(winners, key=lambda other: other.ns_per_mac)
    closest = min(abs(math.log(other.spec.macs / own.spec.macs)) for other in winners)
    sides = [
        min(some, key=lambda other: abs(other.spec.macs - own.spec.macs))
        for some in (
            [other for other in winners if other.spec.macs < own.spec.macs],
            [other for other in winners if other.spec.macs > own.spec.macs],
        )
        if some
    ]
    shown = [other for other in sides if abs(math.log(other.spec.macs / own.spec.macs)) <= max(closest, 1.0)]
    text = " or ".join(_width(other, own) for other in shown)
    details = [
        f"{_width(other, own)}: {other.ns * MS_PER_NS:.3f} ms with "
        f"{other.spec.macs / own.spec.macs:.0%} of the MACs"
        for other in shown
    ]
    why = f"alone {own.ns * MS_PER_NS:.3f} ms at {_width(own, own)}; at {', at '.join(details)}"
    return BetterWidth(text, 1 - best.ns_per_mac / own.ns_per_mac, why)


def _is_aligned(name: str, other: LayerTiming, own: LayerTiming) -> bool:
    """Whether the widths that differ from the layer's own are aligned; includes aligned dense widths."""
    changed = [
        theirs
        for theirs, ours in (
            (other.spec.inputs, own.spec.inputs),
            (other.spec.outputs, own.spec.outputs),
        )
        if theirs != ours
    ]
    return name != "own" and all(width % min(ALIGNMENTS) == 0 for width in changed)


def _is_better(other: LayerTiming, own: LayerTiming) -> bool:
    near = 1 / NEAR <= other.spec.macs / own.spec.macs <= NEAR
    faster = other.ns_per_mac < own.ns_per_mac * (1 - MIN_GAIN - own.spread - other.spread)
    as_fast = other.spec.macs > own.spec.macs and other.layer_ns <= own.layer_ns * (1 + own.spread)
    return (near and faster) or as_fast


def _width(timing: LayerTiming, own: LayerTiming) -> str:
    """Format the widths of a timed layer: outputs, and inputs if they differ from the layer's own."""
    a, b = timing.spec.inputs, timing.spec.outputs
    return str(b) if a == b or a == own.spec.inputs else f"{a}→{b}"


def _narrow_cause(row: Evidence, better: BetterWidth | None) -> tuple[Cause, float, str] | None:
    """Return the loss that no near width avoids but the dense width does not have."""
    own, dense = row.timings.get("own"), row.timings.get("dense")
    if own is None or dense is None:
        return None
    best = own.ns_per_mac * (1 - (better.share if better is not None else 0.0))
    if best <= dense.ns_per_mac * (1 + MIN_GAIN + own.spread + dense.spread):
        return None
    amount = row.cost.compact * (best - dense.ns_per_mac) / own.ns_per_mac
    why = (
        f"alone {1 / own.ns_per_mac:.1f} MACs per ns at {_width(own, own)}, {1 / dense.ns_per_mac:.1f} at "
        f"{_width(dense, own)}; no near width is faster"
    )
    return Cause.NARROW, amount, why


def _attribute_other(row: Evidence) -> tuple[list[Part], BetterWidth | None]:
    """Attribute other work: the part of a pool that an aligned width would save, and the rest."""
    own, parts = row.loss.own, []
    alone, better = row.timings.get("own"), None
    rest = own
    if alone is not None and alone.pool_ns and own > row.noise_ms:
        others = [timing for name, timing in row.timings.items() if name[0].isdigit() and timing.pool_ns]
        ns_per_channel = alone.pool_ns / alone.spec.outputs
        best = min(others, key=lambda timing: timing.pool_ns / timing.spec.outputs, default=None)
        if best is not None:
            share = 1 - best.pool_ns / best.spec.outputs / ns_per_channel
            if share > MIN_GAIN + alone.spread + best.spread:
                part_ms = min(share * row.cost.compact, own)
                width = str(best.spec.outputs)
                why = (
                    f"alone {alone.pool_ns * MS_PER_NS:.3f} ms; "
                    f"at {width} channels {best.pool_ns * MS_PER_NS:.3f} ms"
                )
                parts.append(Part(cause=Cause.MISALIGNED, ms=part_ms, why=why))
                better = BetterWidth(width, part_ms / max(row.cost.compact, 1e-12), why)
                rest = own - part_ms
    if rest or not parts:
        parts.append(Part(cause=Cause.NO_MACS, ms=rest, why="work that MACs do not count"))
    return parts, better


def _mix_part(row: Evidence) -> Part:
    share = row.cost.share or 0.0
    if share == 1.0:
        return Part(cause=Cause.PROTECTED, ms=row.loss.mix, why="not cut")
    why = f"{share:.0%} of its MACs remain" + (f"; {row.uncut}" if row.uncut else "")
    return Part(cause=Cause.UNEVEN, ms=row.loss.mix, why=why)


def _node_counts(row: Evidence) -> str:
    dense, compact = row.nodes
    return f"{compact} nodes, {dense} in the dense network"
