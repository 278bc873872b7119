"""Matplotlib figures as inline SVG with real text, in the colors of the page (light or dark)."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE, DENSE, COMPACT, THIRD, PAPER = (
    "#010101",
    "#020202",
    "#030303",
    "#040404",
    "#050505",
    "#060606",
    "#070707",
)
"""Placeholder colors that are replaced by the CSS variables of the page."""

_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    DENSE: "var(--dense)",
    COMPACT: "var(--compact)",
    THIRD: "var(--third)",
    PAPER: "var(--paper)",
}

STYLE: Any = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9.0,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.labelcolor": MUTED,
    "lines.linewidth": 1.8,
}

WIDTH = 4.2
"""Width of a figure in inches; about the width of a phone."""


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Use the style of the page inside a ``with`` block; global Matplotlib settings are restored."""
    from matplotlib import rc_context

    with rc_context(STYLE):
        yield


def figure(height: float) -> Figure:
    """Return an empty figure of the page's width; `height` is in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def legend(axes: Axes) -> None:
    """Add a legend above the axes on the right."""
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderpad=0, handlelength=1.4)


def grid_only(axes: Axes, grid: str) -> None:
    """Show only grid lines along ``x`` or ``y``, without ticks."""
    axes.grid(False)
    axes.grid(True, axis=grid)  # type: ignore[arg-type]
    axes.tick_params(length=0)


def inline(figure: Figure, name: str, description: str) -> str:
    """Return a figure as an SVG element.

    Args:
        figure: the figure, drawn with the placeholder colors.
        name: letters and digits, unique among the figures of the page.
        description: text for screen readers.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    file = io.StringIO()
    # Figure.savefig would draw everything twice
    FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None, "Creator": None})  # type: ignore[no-untyped-call]
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    for placeholder, variable in _VARIABLES.items():
        text = text.replace(placeholder, variable)
    width, height = (float(value) for value in re.findall(r'(?:width|height)="([\d.]+)pt"', text)[:2])
    opening = f'<svg role="img" aria-label="{escape(description)}" viewBox="0 0 {width:g} {height:g}">'
    return opening + text[text.index(">") + 1 :].strip()
