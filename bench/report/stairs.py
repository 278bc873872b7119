"""Latency against width in the report: the figures of the layers that take longest, and what they advise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compress.bench.report import svg
from compress.bench.report.facts import LayerRow
from compress.bench.staircase import plot
from compress.cost import LatencyTable
from compress.cost.latency import Curve, Entry

OPEN = 4
"""Layer shapes whose figures stand open."""

QUIET = 0.05
"""Noise floor of a curve (log-ratio) up to which it advises anything."""

LIMIT = 16
"""Layer shapes that have a figure; those that take longest."""

PALETTE = plot.Palette(
    curve=svg.COMPACT,
    other=svg.THIRD,
    macs=svg.DENSE,
    line=svg.LINE,
    text=svg.MUTED,
    ink=svg.INK,
    paper=svg.PAPER,
)


@dataclass(frozen=True)
class Advice:
    """A layer that could be wider at no cost of its own time: its width in the compact network, and which."""

    layer: str
    width: int
    best: int


@dataclass(frozen=True)
class StairsView:
    """A table of latency against width as the page shows it.

    Attributes:
        curves: every curve, the shapes that take longest first.
        shown, more: figures (SVG) that stand open, and that are folded away.
        left_out: how many layer shapes have no figure.
    """

    table: LatencyTable
    curves: tuple[tuple[Entry, Curve], ...]
    shown: tuple[str, ...]
    more: tuple[str, ...]
    left_out: int
    advice: tuple[Advice, ...]


def view(table: LatencyTable, layers: Sequence[LayerRow], name: str) -> StairsView:
    """Arrange a table.

    Args:
        table: the measurements.
        layers: the run's, whose compact widths are marked.
        name: letters and digits that no other figure of the page has.
    """
    entries = sorted(table.entries, key=lambda entry: -entry.curves[0].full_ms * len(entry.layers))
    compact = {row.name: row.narrow_width for row in layers if row.narrow_width < row.width}
    drawn = [figure(entry, compact, f"{name}x{i}") for i, entry in enumerate(entries[:LIMIT])]
    return StairsView(
        table=table,
        curves=tuple(plot.panels(entries)),
        shown=tuple(drawn[:OPEN]),
        more=tuple(drawn[OPEN:]),
        left_out=max(0, len(entries) - LIMIT),
        advice=advice(table, layers),
    )


def figure(entry: Entry, compact: dict[str, int], name: str) -> str:
    """Draw the curves of a layer shape below each other, with the widths of the compact network marked."""
    with svg.styled():
        drawn = svg.figure(plot.PANEL_INCHES * len(entry.curves) + 0.35)
        every = drawn.subplots(len(entry.curves), 1, squeeze=False)[:, 0]
        for axes, curve in zip(every, entry.curves, strict=True):
            plot.panel(axes, curve, PALETTE)
            if curve.axis != "in":
                marks = sorted({compact[layer] for layer in entry.layers if layer in compact})
                if marks:  # nothing, drawn unclipped, would stand at the figure's corner for the layout
                    at = [0.0] * len(marks)
                    axes.plot(marks, at, "^", color=svg.INK, markersize=7, clip_on=False, zorder=4)
        every[0].set_title(plot.title(entry))
        return svg.inline(drawn, name, f"Latency against width of {entry.layers[0]}")


def advice(table: LatencyTable, layers: Sequence[LayerRow]) -> tuple[Advice, ...]:
    """Layers of the compact network that a larger width would make no slower, as far as they go alone.

    Only where the noise is small: on a busy machine everything looks as fast as everything.
    """
    curves = {
        layer: curve
        for entry in table.entries
        for curve in entry.curves
        if curve.axis != "in" and curve.floor <= QUIET
        for layer in entry.layers
    }
    found = []
    for row in layers:
        curve = curves.get(row.name)
        if curve is not None and curve.full == row.width and row.narrow_width < row.width:
            best = curve.best_width(row.narrow_width)
            if best > row.narrow_width:
                found.append(Advice(row.name, row.narrow_width, best))
    return tuple(found)
