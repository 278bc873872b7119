"""Render an explanation as Rich tables: losses by cause, the layers that lost most, and notes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from compress.bench.explain.record import MEANING, Cause, Explanation, Row, SideCost
from compress.bench.results.value_range import BUSY

MAX_NAME_LENGTH = 32
"""Longest name in a table; longer names are cut at the start."""

MAX_ROWS = 12
"""Most rows that are shown; all are in the file."""


def render_explanation(explanation: Explanation) -> Group:
    """Return the tables of an explanation for a Rich console."""
    shown = sorted(explanation.rows, key=lambda row: -row.loss_ms)[:MAX_ROWS]
    parts: list[RenderableType] = [
        _cause_table(explanation),
        _cost_table(shown),
        _loss_table(explanation, shown),
        Text(_summary(explanation)),
    ]
    if explanation.others_load > BUSY:
        parts.append(
            Text(
                f"Other processes used {explanation.others_load:.0%} of the processors during the "
                "measurement: measure again on a quiet machine.",
                style="yellow",
            )
        )
    return Group(*parts, Text(_footnote(explanation), style="dim"))


def _cause_table(explanation: Explanation) -> Table:
    table = Table(
        title=f"{explanation.run}: {explanation.model}, {explanation.backend}, batch {explanation.batch}, "
        f"{explanation.threads} thread{'s' if explanation.threads > 1 else ''}: causes of the "
        f"{explanation.gap_ms:+.3f} ms gap",
        title_justify="left",
    )
    for name, justify in (("cause", "left"), ("ms", "right"), ("of the gap", "right"), ("rows", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("meaning")
    for part in explanation.causes:
        count = sum(any(p.cause is part.cause for p in row.parts) for row in explanation.rows)
        table.add_row(
            part.cause.value,
            f"{part.ms:+.3f}",
            _percent(part.ms, explanation.gap_ms),
            str(count),
            MEANING[part.cause],
        )
    total = sum(part.ms for part in explanation.causes)
    table.add_section()
    table.add_row(
        "sum", f"{total:+.3f}", _percent(total, explanation.gap_ms), "", _remainder_note(explanation)
    )
    return table


def _cost_table(shown: Sequence[Row]) -> Table:
    table = Table(title="Cost per row, dense → compact", title_justify="left")
    table.add_column("layer", no_wrap=True)
    for name in ("width", "MMACs", "MB", "MACs/byte", "ms", "GMACs/s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("kernel")
    for row in shown:
        a, b = row.dense, row.compact
        table.add_row(
            _name(row),
            _arrow(a, b, _width),
            _arrow(a, b, lambda side: f"{(side.macs or 0) / 1e6:.1f}"),
            _arrow(a, b, lambda side: f"{(side.bytes or 0) / 1e6:.2f}"),
            _arrow(a, b, lambda side: f"{side.intensity or 0:.1f}"),
            f"{a.ms:.3f} → {b.ms:.3f}",
            _arrow(a, b, lambda side: f"{(side.macs_per_s or 0) / 1e9:.1f}"),
            _kernels(a, b),
        )
    return table


def _loss_table(explanation: Explanation, shown: Sequence[Row]) -> Table:
    table = Table(title="Lost time per row", title_justify="left")
    table.add_column("layer", no_wrap=True)
    for name in ("MACs left", "time left", "lost ms", "of the gap"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("cause")
    table.add_column("better width: ms saved")
    for row in shown:
        a, b = row.dense, row.compact
        table.add_row(
            _name(row),
            f"{b.macs / a.macs:.0%}" if a.macs and b.macs else "",
            f"{b.ms / a.ms:.0%}" if a.ms > 0 and row.kind != "remainder" else "",
            f"{row.loss_ms:+.3f}",
            _percent(row.loss_ms, explanation.gap_ms),
            _main_causes(row),
            "" if row.better is None else f"{row.better}: {row.saves_ms or 0:.3f}",
        )
    rest = sum(row.loss_ms for row in explanation.rows if row not in shown)
    if len(shown) < len(explanation.rows):
        table.add_section()
        count = f"{len(explanation.rows) - len(shown)} others"
        table.add_row(count, "", "", f"{rest:+.3f}", _percent(rest, explanation.gap_ms))
    table.add_section()
    table.add_row(
        "all",
        f"{1 / explanation.mac_reduction:.0%}",
        f"{explanation.compact_ms / explanation.dense_ms:.0%}",
        f"{explanation.gap_ms:+.3f}",
        _percent(explanation.gap_ms, explanation.gap_ms),
    )
    return table


def _main_causes(row: Row) -> str:
    """Return the causes of more than 15% of the loss, each with its part."""
    large = [part for part in row.parts if abs(part.ms) > 0.15 * abs(row.loss_ms)] or row.parts[:1]
    if len(large) == 1:
        return large[0].cause.value
    return ", ".join(f"{part.cause.value} {part.ms:+.3f}" for part in large)


def _name(row: Row) -> str:
    name = row.name
    return name if len(name) <= MAX_NAME_LENGTH else "…" + name[1 - MAX_NAME_LENGTH :]


def _arrow(a: SideCost, b: SideCost, text: Callable[[SideCost], str]) -> str:
    """Format a value of a layer as dense → compact; empty if the row is not a layer."""
    return "" if a.macs is None or b.macs is None else f"{text(a)} → {text(b)}"


def _kernels(a: SideCost, b: SideCost) -> str:
    one, other = (" + ".join(side.kernels) for side in (a, b))
    return one if one == other else f"{one or 'none'} → {other or 'none'}"


def _width(cost: SideCost) -> str:
    same = cost.inputs == cost.outputs
    return str(cost.outputs) if same else f"{cost.inputs}:{cost.outputs}"


def _percent(value: float, whole: float) -> str:
    return "-" if abs(whole) < 1e-12 else f"{value / whole:.0%}"


def _remainder_note(explanation: Explanation) -> str:
    within = "within" if explanation.adds_up else "beyond"
    return (
        f"= the gap; the remainder of {explanation.remainder_ms:+.3f} ms is {within} its noise of "
        f"{explanation.remainder_noise_ms:.3f} ms"
    )


def _summary(explanation: Explanation) -> str:
    """Return the result in two sentences."""
    ideal = explanation.dense_ms / explanation.mac_reduction
    speedup = explanation.speedup
    text = (
        f"{explanation.mac_reduction:.2f}x fewer MACs would reduce {explanation.dense_ms:.3f} ms to "
        f"{ideal:.3f} ms; measured: {explanation.compact_ms:.3f} ms, {speedup.ratio:.2f}x "
        f"({speedup.low:.2f} to {speedup.high:.2f}), efficiency {explanation.efficiency:.2f}. "
    )
    causes = [part for part in explanation.causes if part.cause not in (Cause.REMAINDER, Cause.NOISE)]
    if abs(explanation.gap_ms) <= explanation.gap_noise_ms:
        return text + f"The gap is within the noise of {explanation.gap_noise_ms:.3f} ms."
    if explanation.gap_ms < 0 or not causes or causes[0].ms <= 0:
        return text + "The speed-up is larger than the MAC reduction."
    main, rest = causes[0], explanation.gap_ms - causes[0].ms
    return text + (
        f"The main cause is {main.cause.value}: {main.ms:.3f} ms, "
        f"{_percent(main.ms, explanation.gap_ms)} of the gap; all others together: {rest:+.3f} ms."
    )


def _footnote(explanation: Explanation) -> str:
    limit, profile = explanation.roofline, explanation.profile
    unseen = f" No node matched: {', '.join(profile.unseen)}." if profile.unseen else ""
    compute, _, copy = limit.how.partition("; ")
    versions = ", ".join(f"{name} {version}" for name, version in explanation.versions.items())
    return (
        "Gap: compact time minus dense time over the MAC reduction; the loss of a row is the same "
        "difference for the row. The time of a layer includes operators that are or could be fused into it. "
        f"Bytes: input, weights and output in float32. Measured roofline: {limit.macs_per_s / 1e9:.1f} "
        f"GMACs/s ({compute}), {limit.bytes_per_s / 1e9:.1f} GB/s ({copy}); ridge point "
        f"{limit.ridge:.1f} MACs per byte. Times of layers: {profile.source}; lower-tail means, corrected by "
        f"the time of almost empty nodes ({profile.node_us:.1f} us each, {profile.profiled_us:.1f} us in the "
        f"profile; {profile.call_us:.1f} us per call) and scaled by {profile.scale:.3f} in both networks. "
        f"The profiler makes an inference {profile.slowed[0]:.2f} (dense) and {profile.slowed[1]:.2f} "
        f"(compact) times as long.{unseen} {explanation.machine.cpu}, {versions}; {explanation.created}."
    )
