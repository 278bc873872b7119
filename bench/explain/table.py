"""An explanation for people: the account by cause, the layers that lost most, and how to read them."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.explain.record import MEANING, Cause, Explanation, Row, SideCost
from bench.possible import BUSY

MOST = 12
"""Most rows that are shown; all are in the file."""


def table(found: Explanation) -> Group:
    """Return what a reader needs to see where the time went, for a Rich console."""
    parts: list[RenderableType] = [_causes(found), _rows(found), Text(_sentence(found))]
    if found.others_load > BUSY:
        parts.append(
            Text(
                f"Other processes took {found.others_load:.0%} of the processors meanwhile: measure again on a "
                "quiet machine.",
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
            part.cause.value, f"{part.ms:+.3f}", _percent(part.ms, found.gap_ms), str(count), MEANING[part.cause]
        )
    total = sum(part.ms for part in found.causes)
    made.add_section()
    made.add_row("sum", f"{total:+.3f}", _percent(total, found.gap_ms), "", _adds_up(found))
    return made


def _rows(found: Explanation) -> Table:
    """The rows that lost most, and the totals."""
    made = Table(title="Layers that lost most", title_justify="left")
    made.add_column("layer")
    for name in (
        "width", "MMACs", "MB", "MACs/byte", "ms", "GMACs/s", "of its MACs", "of its time", "lost ms",
    ):  # fmt: skip
        made.add_column(name, justify="right")
    made.add_column("cause")
    made.add_column("better width")
    shown = sorted(found.rows, key=lambda row: -row.loss_ms)[:MOST]
    for row in shown:
        made.add_row(*_cells(row))
    rest = [row for row in found.rows if row not in shown]
    if rest:
        made.add_section()
        made.add_row(
            f"{len(rest)} others", *[""] * 4,
            f"{sum(r.dense.ms for r in rest):.3f} → {sum(r.compact.ms for r in rest):.3f}", *[""] * 3,
            f"{sum(r.loss_ms for r in rest):+.3f}",
        )  # fmt: skip
    made.add_section()
    made.add_row(
        "all",
        "",
        f"{_million(found, 'dense')} → {_million(found, 'compact')}",
        "",
        "",
        f"{found.dense_ms:.3f} → {found.compact_ms:.3f}",
        "",
        f"{1 / found.mac_reduction:.0%}",
        f"{found.compact_ms / found.dense_ms:.0%}",
        f"{found.gap_ms:+.3f}",
    )
    return made


def _cells(row: Row) -> list[str]:
    a, b = row.dense, row.compact
    is_layer = a.macs is not None and b.macs is not None
    return [
        row.name if is_layer or row.kind in ("call", "remainder") else f"{row.name} ({row.kind})",
        f"{_width(a)} → {_width(b)}" if is_layer else "",
        f"{(a.macs or 0) / 1e6:.1f} → {(b.macs or 0) / 1e6:.1f}" if is_layer else "",
        f"{(a.bytes or 0) / 1e6:.2f} → {(b.bytes or 0) / 1e6:.2f}" if is_layer else "",
        f"{a.intensity or 0:.0f} → {b.intensity or 0:.0f}" if is_layer else "",
        f"{a.ms:.3f} → {b.ms:.3f}",
        f"{(a.macs_per_s or 0) / 1e9:.1f} → {(b.macs_per_s or 0) / 1e9:.1f}" if is_layer else "",
        f"{b.macs / a.macs:.0%}" if a.macs and b.macs else "",
        f"{b.ms / a.ms:.0%}" if a.ms > 0 and row.kind != "remainder" else "",
        f"{row.loss_ms:+.3f}",
        ", ".join(part.cause.value for part in row.parts if part.ms > 0.2 * max(row.loss_ms, 1e-9)),
        "" if row.better is None else f"{row.better} ({-(row.saves_ms or 0):+.3f} ms)",
    ]


def _width(cost: SideCost) -> str:
    same = cost.inputs == cost.outputs
    return str(cost.outputs) if same else f"{cost.inputs}/{cost.outputs}"


def _million(found: Explanation, side: str) -> str:
    return f"{sum(getattr(row, side).macs or 0 for row in found.rows) / 1e6:.1f}"


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
    return (
        "The gap is the compact network's time less the dense one's over the MAC reduction; a row's loss is the "
        "same of the row. A layer has with it what is fused into it or could be. Bytes are input, weights and "
        f"output, float32. Roofline, measured: {limit.macs_per_s / 1e9:.1f} GMACs/s "
        f"({limit.how.partition(';')[0]}), {limit.bytes_per_s / 1e9:.1f} GB/s ({limit.how.partition('; ')[2]}); "
        f"ridge at {limit.ridge:.1f} MACs a byte. Times of layers: {profile.source}, corrected by a chain of "
        f"nodes that compute next to nothing ({profile.node_us:.1f} us each, {profile.profiled_us:.1f} us in "
        f"the profile; the call {profile.call_us:.1f} us) and scaled by {profile.scale:.3f} on both sides; the "
        f"profiler slows an inference to {profile.slowed[0]:.2f} (dense) and {profile.slowed[1]:.2f} (compact) "
        f"of its time.{unseen} {found.machine.cpu}, "
        f"{', '.join(f'{name} {version}' for name, version in found.versions.items())}; {found.created}."
    )
