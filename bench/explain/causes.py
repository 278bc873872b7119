"""From the evidence on a row to the causes of its loss, each with its part of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from compress.bench.explain.accounting import Item, Loss
from compress.bench.explain.probes import ALIGNMENTS, Probed
from compress.bench.explain.record import Cause, Part

CLEARLY = 0.03
"""A probe is faster for each MAC when it is so by this share and by the spreads of both."""

NEAR = 1.5
"""A probe whose MACs are within this factor of the layer's is at a near width."""

NEAR_PEAK = 0.5
"""A layer is memory-bound if it moves its bytes at this share of the measured bandwidth at least, and at most
at all of it: what is faster comes out of a cache, and the memory does not bind it."""

MS = 1e-6
"""Milliseconds in a nanosecond."""


@dataclass(frozen=True)
class Limits:
    """What the machine and the back end allow.

    Attributes:
        macs_per_ms, bytes_per_ms: the roofline. node_ms: cost of a node that computes next to nothing.
    """

    macs_per_ms: float
    bytes_per_ms: float
    node_ms: float

    @property
    def ridge(self) -> float:
        """MACs for each byte from which on the arithmetic is the limit."""
        return self.macs_per_ms / self.bytes_per_ms


@dataclass(frozen=True)
class Evidence:
    """What is known of a row.

    Attributes:
        kind: see `compress.bench.explain.record.Row`. item: times in milliseconds, and MACs. loss: of it.
        noise_ms: a loss up to this is none.
        moved: bytes of the compact layer. nodes: of the runtime, dense and compact.
        kernels: dense and compact.
        probes: see `compress.bench.explain.probes.alternatives`; of a pool, those of the layer before it.
        uncut: which of a layer's widths were not cut, in words.
    """

    kind: str
    item: Item
    loss: Loss
    noise_ms: float = 0.0
    moved: int = 0
    nodes: tuple[int, int] = (1, 1)
    kernels: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    probes: Mapping[str, Probed] = field(default_factory=dict)
    uncut: str = ""


@dataclass(frozen=True)
class Better:
    """The nearest widths that are faster for each MAC.

    Attributes:
        text: such as ``32 or 40``. share: of the layer's time that the best of them saves.
        why: what was measured.
    """

    text: str
    share: float
    why: str


def causes(known: Evidence, limits: Limits) -> tuple[tuple[Part, ...], Better | None]:
    """Return the parts of a row's loss, the largest first, and the better width where that is a cause.

    The parts add up to the loss.
    """
    better = None
    if known.kind == "layer":
        parts, better = _of_layer(known, limits)
    elif known.kind == "conversion":
        parts = [Part(cause=Cause.CONVERSION, ms=known.loss.own, why=_nodes(known))]
    elif known.kind == "scatter":
        parts = [Part(cause=Cause.SCATTER, ms=known.loss.own, why=_nodes(known))]
    elif known.kind == "call":
        parts = [Part(cause=Cause.LAUNCH, ms=known.loss.own, why="calling the network, whatever its size")]
    else:
        parts, better = _of_other(known)
    if known.loss.mix:
        parts.append(_mix(known))
    real = [part for part in parts if part.ms] or parts[:1]
    return tuple(sorted(real, key=lambda part: -abs(part.ms))), better


def _of_layer(known: Evidence, limits: Limits) -> tuple[list[Part], Better | None]:
    own, item = known.loss.own, known.item
    if abs(own) <= known.noise_ms:
        return [Part(cause=Cause.NOISE, ms=own, why=f"within its own {known.noise_ms:.3f} ms")], None
    if own < 0:
        return [Part(cause=Cause.GAIN, ms=own, why="its time fell more than its MACs")], None
    better = better_width(known.probes)
    share = item.share or 0.0
    claims = []
    if better is not None:
        claims.append((Cause.MISALIGNED, item.compact * better.share, better.why))
    extra = limits.node_ms * (known.nodes[1] - share * known.nodes[0])
    if extra > 0.1 * own:
        why = f"{known.nodes[1]} of {limits.node_ms * 1e3:.1f} us at least, of {item.compact * 1e3:.0f} us"
        claims.append((Cause.LAUNCH, extra, why))
    intensity = item.compact_macs / max(known.moved, 1)
    roof = known.moved / limits.bytes_per_ms
    if intensity < limits.ridge and NEAR_PEAK <= roof / max(item.compact, 1e-12) <= 1:
        why = (
            f"{intensity:.1f} MACs a byte, the ridge is at {limits.ridge:.1f}; "
            f"moving its bytes takes {roof:.3f} of its {item.compact:.3f} ms"
        )
        claims.append((Cause.MEMORY, roof - item.dense * share, why))
    narrow = _narrow(known, better)
    if narrow is not None:
        claims.append(narrow)
    parts, rest = [], own
    for cause, amount, why in claims:
        taken = min(max(amount, 0.0), rest)
        if taken > 0:
            parts.append(Part(cause=cause, ms=taken, why=why))
            rest -= taken
    if rest > 0:
        parts.append(_rest(known, rest))
    return parts, better


def _rest(known: Evidence, rest: float) -> Part:
    """What no measured limit accounts for."""
    dense, compact = known.kernels
    if rest <= known.noise_ms:
        return Part(cause=Cause.NOISE, ms=rest, why=f"within its own {known.noise_ms:.3f} ms")
    if dense != compact:
        why = f"{' + '.join(compact)} instead of {' + '.join(dense)}"
        return Part(cause=Cause.KERNEL, ms=rest, why=why)
    return Part(cause=Cause.UNEXPLAINED, ms=rest, why="")


def better_width(probes: Mapping[str, Probed]) -> Better | None:
    """Return the nearest aligned widths that beat a layer's own, or None where none does.

    One does where it is clearly faster for each MAC and near, or wider and yet no slower.
    """
    own = probes.get("own")
    if own is None:
        return None
    winners = [
        other for name, other in probes.items() if _is_aligned(name, other, own) and _beats(other, own)
    ]
    if not winners:
        return None
    best = min(winners, key=lambda other: other.per_mac)
    closest = min(abs(math.log(other.spec.macs / own.spec.macs)) for other in winners)
    sides = [
        min(some, key=lambda other: abs(other.spec.macs - own.spec.macs))
        for some in (
            [other for other in winners if other.spec.macs < own.spec.macs],
            [other for other in winners if other.spec.macs > own.spec.macs],
        )
        if some
    ]
    named = [other for other in sides if abs(math.log(other.spec.macs / own.spec.macs)) <= max(closest, 1.0)]
    text = " or ".join(_width(other, own) for other in named)
    told = [
        f"{_width(other, own)}: {other.ns * MS:.3f} ms with {other.spec.macs / own.spec.macs:.0%} of the MACs"
        for other in named
    ]
    why = f"alone {own.ns * MS:.3f} ms at {_width(own, own)}; at {', at '.join(told)}"
    return Better(text, 1 - best.per_mac / own.per_mac, why)


def _is_aligned(name: str, other: Probed, own: Probed) -> bool:
    """Whether a probe is at aligned widths; the dense ones may be the nearest of them."""
    changed = [
        theirs
        for theirs, ours in (
            (other.spec.inputs, own.spec.inputs),
            (other.spec.outputs, own.spec.outputs),
        )
        if theirs != ours
    ]
    return name != "own" and all(width % min(ALIGNMENTS) == 0 for width in changed)


def _beats(other: Probed, own: Probed) -> bool:
    near = 1 / NEAR <= other.spec.macs / own.spec.macs <= NEAR
    faster = other.per_mac < own.per_mac * (1 - CLEARLY - own.spread - other.spread)
    as_fast = other.spec.macs > own.spec.macs and other.layer_ns <= own.layer_ns * (1 + own.spread)
    return (near and faster) or as_fast


def _width(probe: Probed, own: Probed) -> str:
    """The widths of a probe: outputs, and inputs where they are others."""
    a, b = probe.spec.inputs, probe.spec.outputs
    return str(b) if a == b or a == own.spec.inputs else f"{a}→{b}"


def _narrow(known: Evidence, better: Better | None) -> tuple[Cause, float, str] | None:
    """What no near width would mend, but the dense width does not have."""
    own, dense = known.probes.get("own"), known.probes.get("dense")
    if own is None or dense is None:
        return None
    best = own.per_mac * (1 - (better.share if better is not None else 0.0))
    if best <= dense.per_mac * (1 + CLEARLY + own.spread + dense.spread):
        return None
    amount = known.item.compact * (best - dense.per_mac) / own.per_mac
    why = (
        f"alone {1 / own.per_mac:.1f} MACs a ns at {_width(own, own)}, {1 / dense.per_mac:.1f} at "
        f"{_width(dense, own)}; no near width is faster"
    )
    return Cause.NARROW, amount, why


def _of_other(known: Evidence) -> tuple[list[Part], Better | None]:
    """Other work: what an aligned width would save of a pool, and the rest."""
    own, parts = known.loss.own, []
    alone, better = known.probes.get("own"), None
    rest = own
    if alone is not None and alone.pool_ns and own > known.noise_ms:
        others = [p for name, p in known.probes.items() if name[0].isdigit() and p.pool_ns]
        rate = alone.pool_ns / alone.spec.outputs
        best = min(others, key=lambda p: p.pool_ns / p.spec.outputs, default=None)
        if best is not None:
            share = 1 - best.pool_ns / best.spec.outputs / rate
            if share > CLEARLY + alone.spread + best.spread:
                taken = min(share * known.item.compact, own)
                width = str(best.spec.outputs)
                why = f"alone {alone.pool_ns * MS:.3f} ms; at {width} channels {best.pool_ns * MS:.3f} ms"
                parts.append(Part(cause=Cause.MISALIGNED, ms=taken, why=why))
                better, rest = Better(width, taken / max(known.item.compact, 1e-12), why), own - taken
    if rest or not parts:
        parts.append(Part(cause=Cause.NO_MACS, ms=rest, why="work that MACs do not count"))
    return parts, better


def _mix(known: Evidence) -> Part:
    share = known.item.share or 0.0
    if share == 1.0:
        return Part(cause=Cause.PROTECTED, ms=known.loss.mix, why="not cut")
    why = f"{share:.0%} of its MACs are left" + (f"; {known.uncut}" if known.uncut else "")
    return Part(cause=Cause.UNEVEN, ms=known.loss.mix, why=why)


def _nodes(known: Evidence) -> str:
    dense, compact = known.nodes
    return f"{compact} nodes, {dense} in the dense network"
