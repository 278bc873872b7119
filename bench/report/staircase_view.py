"""Section of the report on latency over width: figures of the slowest layers, and better widths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compress.bench.report import svg
from compress.bench.report.facts import LayerRow
from compress.bench.staircase import plot
from compress.cost import LatencyTable
from compress.cost.latency import Curve, Entry

OPEN_FIGURES = 4
"""Number of figures that are shown open."""

MAX_NOISE = 0.05
"""Largest noise floor (log-ratio) of a curve that wider layers are suggested from."""

MAX_FIGURES = 16
"""Number of layer shapes with a figure, the slowest ones."""

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
class WiderLayer:
    """A layer that could be wider without becoming slower.

    Attributes:
        layer: name of the layer.
        width: its width in the compact network.
        best: the largest width that is as fast.
    """

    layer: str
    width: int
    best: int


@dataclass(frozen=True)
class StaircaseView:
    """A latency table as the page shows it.

    Attributes:
        table: the table.
        curves: every curve, the slowest shapes first.
        shown, more: figures (SVG) that are shown open, and that are collapsed.
        left_out: number of layer shapes without a figure.
        wider: layers of the compact network that could be wider.
    """

    table: LatencyTable
    curves: tuple[tuple[Entry, Curve], ...]
    shown: tuple[str, ...]
    more: tuple[str, ...]
    left_out: int
    wider: tuple[WiderLayer, ...]


def staircase_view(table: LatencyTable, layers: Sequence[LayerRow], name: str) -> StaircaseView:
    """Return the view of a table.

    Args:
        table: the measurements.
        layers: layers of the run; their compact widths are marked in the figures.
        name: letters and digits, unique among the figures of the page.
    """
    entries = sorted(table.entries, key=lambda entry: -entry.curves[0].full_ms * len(entry.layers))
    compact = {row.name: row.narrow_width for row in layers if row.narrow_width < row.width}
    figures = [draw_entry(entry, compact, f"{name}x{i}") for i, entry in enumerate(entries[:MAX_FIGURES])]
    return StaircaseView(
        table=table,
        curves=tuple(plot.all_curves(entries)),
        shown=tuple(figures[:OPEN_FIGURES]),
        more=tuple(figures[OPEN_FIGURES:]),
        left_out=max(0, len(entries) - MAX_FIGURES),
        wider=find_wider_layers(table, layers),
    )


def draw_entry(entry: Entry, compact: dict[str, int], name: str) -> str:
    """Draw the curves of a layer shape below each other, and mark the widths of the compact network."""
    with svg.styled():
        figure = svg.figure(plot.PANEL_INCHES * len(entry.curves) + 0.35)
        panels = figure.subplots(len(entry.curves), 1, squeeze=False)[:, 0]
        for axes, curve in zip(panels, entry.curves, strict=True):
            plot.draw_curve(axes, curve, PALETTE)
            if curve.axis != "in":
                marks = sorted({compact[layer] for layer in entry.layers if layer in compact})
                if marks:  # an empty unclipped plot would extend the layout to the corner of the figure
                    axes.plot(
                        marks, [0.0] * len(marks), "^", color=svg.INK, markersize=7, clip_on=False, zorder=4
                    )
        panels[0].set_title(plot.entry_title(entry))
        return svg.inline(figure, name, f"Latency over width of {entry.layers[0]}")


def find_wider_layers(table: LatencyTable, layers: Sequence[LayerRow]) -> tuple[WiderLayer, ...]:
    """Return the layers of the compact network that, timed alone, are no slower at a larger width.

    Curves with a large noise floor are ignored: there, most widths look equally fast.
    """
    curves = {
        layer: curve
        for entry in table.entries
        for curve in entry.curves
        if curve.axis != "in" and curve.floor <= MAX_NOISE
        for layer in entry.layers
    }
    wider = []
    for row in layers:
        curve = curves.get(row.name)
        if curve is not None and curve.full == row.width and row.narrow_width < row.width:
            best = curve.best_width(row.narrow_width)
            if best > row.narrow_width:
                wider.append(WiderLayer(row.name, row.narrow_width, best))
    return tuple(wider)
