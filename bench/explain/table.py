"""An explanation for people: the account by cause, the layers that lost most, and how to read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from compress.bench.explain.record import MEANING, Cause, Explanation, Row, SideCost
from compress.bench.results.value_range import BUSY

NAME_LENGTH = 32
"""Longest name in a table; of a longer one the end is shown."""

MOST = 12
"""Most rows that are shown; all are in the file."""


def table(found: Explanation) -> Group:
    """Return what a reader needs to see where the time went, for a Rich console."""
    shown = sorted(found.rows, key=lambda row: -row.loss_ms)[:MOST]
    parts: list[RenderableType] = [
        _causes(found), _costs(shown), _losses(found, shown), Text(_sentence(found))
    ]  # fmt: skip
    if found.others_load > BUSY:
        parts.append(
            Text(
                f"Other processes took {found.others_load:.0%} of the processors meanwhile: measure again on "
                "a quiet machine.",
                style="yellow",
            )
        )
    return Group(*parts, Text(_footnote(found), style="dim"))


def _causes(found: Explanation) -> Table:
    """What was lost, by cause."""
    made = Table(
        title=f"{found.run}: {found.model}, {found.backend}, batch {found.batch}, {found.threads} "
        f"thread{'s' if found.threads > 1 else ''}: where {found.gap_ms:+.3f} ms come from",
        title_justify="left",
    )
    for name, justify in (("cause", "left"), ("ms", "right"), ("of the gap", "right"), ("layers", "right")):
        made.add_column(name, justify=justify)  # type: ignore[arg-type]
    made.add_column("meaning")
    for part in found.causes:
        count = sum(any(p.cause is part.cause for p in row.parts) for row in found.rows)
        made.add_row(
            part.cause.value,
            f"{part.ms:+.3f}",
            _percent(part.ms, found.gap_ms),
            str(count),
            MEANING[part.cause],
        )
    total = sum(part.ms for part in found.causes)
    made.add_section()
    made.add_row("sum", f"{total:+.3f}", _percent(total, found.gap_ms), "", _adds_up(found))
    return made


def _costs(shown: Sequence[Row]) -> Table:
    """What the layers cost, dense and compact."""
    made = Table(title="What they cost, dense → compact", title_justify="left")
    made.add_column("layer", no_wrap=True)
    for name in ("width", "MMACs", "MB", "MACs/byte", "ms", "GMACs/s"):
        made.add_column(name, justify="right", no_wrap=True)
    made.add_column("kernel")
    for row in shown:
        a, b = row.dense, row.compact
        made.add_row(
            _name(row),
            _arrow(a, b, _width),
            _arrow(a, b, lambda side: f"{(side.macs or 0) / 1e6:.1f}"),
            _arrow(a, b, lambda side: f"{(side.bytes or 0) / 1e6:.2f}"),
            _arrow(a, b, lambda side: f"{side.intensity or 0:.1f}"),
            f"{a.ms:.3f} → {b.ms:.3f}",
            _arrow(a, b, lambda side: f"{(side.macs_per_s or 0) / 1e9:.1f}"),
            _kernels(a, b),
        )
    return made


def _losses(found: Explanation, shown: Sequence[Row]) -> Table:
    """What the layers lost, and why."""
    made = Table(title="What they lost", title_justify="left")
    made.add_column("layer", no_wrap=True)
    for name in ("MACs left", "time left", "lost ms", "of the gap"):
        made.add_column(name, justify="right", no_wrap=True)
    made.add_column("cause")
    made.add_column("better width, saves ms")
    for row in shown:
        a, b = row.dense, row.compact
        made.add_row(
            _name(row),
            f"{b.macs / a.macs:.0%}" if a.macs and b.macs else "",
            f"{b.ms / a.ms:.0%}" if a.ms > 0 and row.kind != "remainder" else "",
            f"{row.loss_ms:+.3f}",
            _percent(row.loss_ms, found.gap_ms),
            _told(row),
            "" if row.better is None else f"{row.better}: {row.saves_ms or 0:.3f}",
        )
    rest = sum(row.loss_ms for row in found.rows if row not in shown)
    if len(shown) < len(found.rows):
        made.add_section()
        count = f"{len(found.rows) - len(shown)} others"
        made.add_row(count, "", "", f"{rest:+.3f}", _percent(rest, found.gap_ms))
    made.add_section()
    made.add_row(
        "all",
        f"{1 / found.mac_reduction:.0%}",
        f"{found.compact_ms / found.dense_ms:.0%}",
        f"{found.gap_ms:+.3f}",
        _percent(found.gap_ms, found.gap_ms),
    )
    return made


def _told(row: Row) -> str:
    """The causes that matter, each with its part."""
    large = [part for part in row.parts if abs(part.ms) > 0.15 * abs(row.loss_ms)] or row.parts[:1]
    if len(large) == 1:
        return large[0].cause.value
    return ", ".join(f"{part.cause.value} {part.ms:+.3f}" for part in large)


def _name(row: Row) -> str:
    name = row.name
    return name if len(name) <= NAME_LENGTH else "…" + name[1 - NAME_LENGTH :]


def _arrow(a: SideCost, b: SideCost, said: Callable[[SideCost], str]) -> str:
    """Something of both sides of a layer."""
    return "" if a.macs is None or b.macs is None else f"{said(a)} → {said(b)}"


def _kernels(a: SideCost, b: SideCost) -> str:
    one, other = (" + ".join(side.kernels) for side in (a, b))
    return one if one == other else f"{one or 'none'} → {other or 'none'}"


def _width(cost: SideCost) -> str:
    same = cost.inputs == cost.outputs
    return str(cost.outputs) if same else f"{cost.inputs}:{cost.outputs}"


def _percent(value: float, whole: float) -> str:
    return "-" if abs(whole) < 1e-12 else f"{value / whole:.0%}"


def _adds_up(found: Explanation) -> str:
    within = "within" if found.adds_up else "beyond"
    return (
        f"= the gap; the remainder of {found.remainder_ms:+.3f} ms is {within} the noise of "
        f"{found.remainder_noise_ms:.3f} ms"
    )


def _sentence(found: Explanation) -> str:
    """What was found, in two sentences."""
    ideal = found.dense_ms / found.mac_reduction
    said = (
        f"{found.mac_reduction:.2f}x fewer MACs would be {found.dense_ms:.3f} → {ideal:.3f} ms; measured are "
        f"{found.compact_ms:.3f} ms: {found.speedup.ratio:.2f}x ({found.speedup.low:.2f} to "
        f"{found.speedup.high:.2f}), efficiency {found.efficiency:.2f}. "
    )
    real = [part for part in found.causes if part.cause not in (Cause.REMAINDER, Cause.NOISE)]
    if abs(found.gap_ms) <= found.gap_noise_ms:
        return said + f"The gap is within the noise of {found.gap_noise_ms:.3f} ms."
    if found.gap_ms < 0 or not real or real[0].ms <= 0:
        return said + "The network is faster than its MACs promise."
    rest = found.gap_ms - real[0].ms
    return said + (
        f"The most was lost to {real[0].cause.value}: {real[0].ms:.3f} ms, "
        f"{_percent(real[0].ms, found.gap_ms)} of the gap; all else together is {rest:+.3f} ms."
    )


def _footnote(found: Explanation) -> str:
    limit, profile = found.roofline, found.profile
    unseen = f" No node was found for: {', '.join(profile.unseen)}." if profile.unseen else ""
    compute, _, copy = limit.how.partition("; ")
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    return (
        "The gap is the compact network's time less the dense one's over the MAC reduction; a row's loss is "
        "the same of the row. A layer has with it what is fused into it or could be. Bytes are input, "
        f"weights and output, float32. Roofline, measured: {limit.macs_per_s / 1e9:.1f} GMACs/s ({compute}), "
        f"{limit.bytes_per_s / 1e9:.1f} GB/s ({copy}); ridge at {limit.ridge:.1f} MACs a byte. Times of "
        f"layers: {profile.source}, where nothing interrupted them, corrected by a chain of nodes that "
        f"compute next to nothing ({profile.node_us:.1f} us each, {profile.profiled_us:.1f} in the profile; "
        f"the call {profile.call_us:.1f} us) and scaled by {profile.scale:.3f} on both sides; with the "
        f"profiler an inference takes {profile.slowed[0]:.2f} (dense) and {profile.slowed[1]:.2f} (compact) "
        f"times as long.{unseen} {found.machine.cpu}, {versions}; {found.created}."
    )
