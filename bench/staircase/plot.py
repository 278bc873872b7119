"""Draw latency over width: the measured steps, the best widths, and latency proportional to MACs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compress.cost import LatencyTable
from compress.cost.latency import Curve, Entry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXIS_LABELS = {"out": "output channels", "in": "input channels", "both": "channels"}

PANEL_INCHES = 1.9
WIDTH_INCHES = 4.2
DPI = 200


@dataclass(frozen=True)
class Palette:
    """Colors of a figure.

    Attributes:
        curve: the curve and its best widths.
        other: widths with a larger one that is as fast.
        macs: latency proportional to MACs.
        line: grid lines.
        text, ink: labels and titles.
        paper: background.
    """

    curve: str = "#1f5f99"
    other: str = "#b35c1e"
    macs: str = "#8b9199"
    line: str = "#dddcd7"
    text: str = "#5d646c"
    ink: str = "#1b1e22"
    paper: str = "#ffffff"


def draw_curve(axes: Axes, curve: Curve, palette: Palette) -> None:
    """Draw one curve; markers are filled if no larger width is as fast, hollow otherwise."""
    widths = [point.width for point in curve.points]
    times = [curve.full_ms * point.ratio for point in curve.points]
    edges = set(curve.edges)
    axes.plot([0, curve.full], [0, curve.full_ms], color=palette.macs, linestyle=(0, (4, 3)), linewidth=1.2)
    for point in curve.points:
        ends = [curve.full_ms * point.low, curve.full_ms * point.high]
        axes.plot([point.width] * 2, ends, color=palette.curve, linewidth=1.0, alpha=0.5)
    axes.plot(widths, times, color=palette.curve, linewidth=1.2, gid=f"curve-{curve.axis}")
    for is_edge, face in ((True, palette.curve), (False, palette.paper)):
        shown = [(w, t) for w, t in zip(widths, times, strict=True) if (w in edges) == is_edge]
        edge = palette.curve if is_edge else palette.other
        axes.plot(*(zip(*shown, strict=True) if shown else ([], [])), "o", markersize=4.5,
                  markerfacecolor=face, markeredgecolor=edge, markeredgewidth=1.3, zorder=3)  # fmt: skip
    block = tick_distance(curve.full)
    axes.set_xticks(range(0, curve.full + 1, block))
    axes.grid(True, axis="x", color=palette.line, linewidth=0.7)
    axes.grid(True, axis="y", color=palette.line, linewidth=0.7)
    axes.tick_params(length=0)
    axes.set_xlim(0, curve.full * 1.03)
    axes.set_ylim(0, 1.12 * max(times))
    axes.set_xlabel(f"{AXIS_LABELS[curve.axis]}, grid at multiples of {block}")
    axes.set_ylabel("ms")


def tick_distance(full: int) -> int:
    """Return the distance of grid lines: 8 times a power of two, for nine lines at most."""
    block = 8 if full >= 16 else max(1, full // 4)
    while full / block > 8:
        block *= 2
    return block


def entry_title(entry: Entry) -> str:
    """Return the names of the layers and their shape, in two lines."""
    name, others = entry.layers[0], len(entry.layers) - 1
    more = f" and {others} of the same shape" if others else ""
    return f"{name}{more}\n{entry.shape}"


def all_curves(entries: Sequence[Entry]) -> list[tuple[Entry, Curve]]:
    """Return every curve with its entry, in the order of the table."""
    return [(entry, curve) for entry in entries for curve in entry.curves]


STYLE: Any = {
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "text.parse_math": False,
}


def render_png(table: LatencyTable) -> bytes:
    """Return the figure of a table as PNG."""
    file = io.BytesIO()
    draw_table(table).savefig(file, format="png", dpi=DPI)
    return file.getvalue()


def draw_table(table: LatencyTable) -> Figure:
    """Draw a table: one panel per curve below each other, narrow enough for a phone."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    palette, shown = Palette(), all_curves(table.entries)
    colors: Any = {
        "axes.titlecolor": palette.ink,
        "axes.labelcolor": palette.text,
        "axes.edgecolor": palette.line,
        "xtick.labelcolor": palette.text,
        "ytick.labelcolor": palette.text,
        "text.color": palette.ink,
    }
    with rc_context({**STYLE, **colors}):
        size = WIDTH_INCHES, PANEL_INCHES * len(shown) + 0.8
        figure = Figure(figsize=size, layout="constrained", facecolor=palette.paper)
        threads = f"{table.threads} thread{'' if table.threads == 1 else 's'}"
        where = f"{table.backend}, {table.device}\n{threads}, batch {table.batch}"
        figure.suptitle(f"{table.network}: latency over width\n{where}", fontsize=10, ha="left", x=0.02)
        panels = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
        for axes, (entry, curve) in zip(panels, shown, strict=True):
            draw_curve(axes, curve, palette)
            axes.set_title(entry_title(entry))
    return figure
