"""Latency against width as a figure: the steps, the widths worth choosing, and what the MACs promise."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.core.files import write_bytes
from compress.cost import LatencyTable
from compress.cost.latency import Curve, Entry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXIS_WORDS = {"out": "output channels", "in": "input channels", "both": "channels"}

PANEL_INCHES = 1.9
WIDTH_INCHES = 4.2
DPI = 200


@dataclass(frozen=True)
class Palette:
    """Colours of a figure: the curve, other widths than those worth choosing, the MACs, quiet lines, text."""

    curve: str = "#1f5f99"
    other: str = "#b35c1e"
    macs: str = "#8b9199"
    line: str = "#dddcd7"
    text: str = "#5d646c"
    ink: str = "#1b1e22"
    paper: str = "#ffffff"


def panel(axes: Axes, curve: Curve, palette: Palette) -> None:
    """Draw one curve: filled where no larger width is as fast, hollow where one is."""
    widths = [point.width for point in curve.points]
    times = [curve.full_ms * point.ratio for point in curve.points]
    edges = set(curve.edges)
    axes.plot([0, curve.full], [0, curve.full_ms], color=palette.macs, linestyle=(0, (4, 3)), linewidth=1.2)
    for point in curve.points:
        ends = [curve.full_ms * point.low, curve.full_ms * point.high]
        axes.plot([point.width] * 2, ends, color=palette.curve, linewidth=1.0, alpha=0.5)
    axes.plot(widths, times, color=palette.curve, linewidth=1.2, gid=f"curve-{curve.axis}")
    for inside, face in ((True, palette.curve), (False, palette.paper)):
        shown = [(w, t) for w, t in zip(widths, times, strict=True) if (w in edges) == inside]
        edge = palette.curve if inside else palette.other
        axes.plot(*(zip(*shown, strict=True) if shown else ([], [])), "o", markersize=4.5,
                  markerfacecolor=face, markeredgecolor=edge, markeredgewidth=1.3, zorder=3)  # fmt: skip
    block = tick_block(curve.full)
    axes.set_xticks(range(0, curve.full + 1, block))
    axes.grid(True, axis="x", color=palette.line, linewidth=0.7)
    axes.grid(True, axis="y", color=palette.line, linewidth=0.7)
    axes.tick_params(length=0)
    axes.set_xlim(0, curve.full * 1.03)
    axes.set_ylim(0, 1.12 * max(times))
    axes.set_xlabel(f"{AXIS_WORDS[curve.axis]}, lines at multiples of {block}")
    axes.set_ylabel("ms")


def tick_block(full: int) -> int:
    """Distance of the lines: 8, or a power of two times that so that there are nine at most."""
    block = 8 if full >= 16 else max(1, full // 4)
    while full / block > 8:
        block *= 2
    return block


def title(entry: Entry) -> str:
    """Name of the layers and their shape, in two lines."""
    names, others = entry.layers[0], len(entry.layers) - 1
    more = f" and {others} like it" if others else ""
    return f"{names}{more}\n{entry.shape}"


def panels(entries: Sequence[Entry]) -> list[tuple[Entry, Curve]]:
    """Every curve, in the order of the table."""
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


def png(table: LatencyTable) -> bytes:
    """Return the picture of a table."""
    file = io.BytesIO()
    figure(table).savefig(file, format="png", dpi=DPI)
    return file.getvalue()


def figure(table: LatencyTable) -> Figure:
    """Draw a table: a panel below the other for every curve, as wide as a phone shows."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    palette, shown = Palette(), panels(table.entries)
    colours: Any = {
        "axes.titlecolor": palette.ink,
        "axes.labelcolor": palette.text,
        "axes.edgecolor": palette.line,
        "xtick.labelcolor": palette.text,
        "ytick.labelcolor": palette.text,
        "text.color": palette.ink,
    }
    with rc_context({**STYLE, **colours}):
        size = WIDTH_INCHES, PANEL_INCHES * len(shown) + 0.8
        drawn = Figure(figsize=size, layout="constrained", facecolor=palette.paper)
        threads = f"{table.threads} thread{'' if table.threads == 1 else 's'}"
        where = f"{table.backend}, {table.device}\n{threads}, batch {table.batch}"
        drawn.suptitle(f"{table.network}: latency against width\n{where}", fontsize=10, ha="left", x=0.02)
        every = drawn.subplots(len(shown), 1, squeeze=False)[:, 0]
        for axes, (entry, curve) in zip(every, shown, strict=True):
            panel(axes, curve, palette)
            axes.set_title(title(entry))
    return drawn


def save(drawn: bytes, path: Path) -> None:
    """Write a picture, whole or not at all."""
    write_bytes(path, drawn)
