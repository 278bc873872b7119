"""A Matplotlib figure as SVG for a page: its text is text, and its colours are the page's, light or dark."""

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
"""Stand-ins: Matplotlib draws with them, the page's own colours take their places."""

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
"""Inches. A phone shows it at about its own size."""


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Draw in the page's style; the caller's own settings of Matplotlib are not touched."""
    from matplotlib import rc_context

    with rc_context(STYLE):
        yield


def figure(height: float) -> Figure:
    """Return an empty figure of the page's width; `height` is in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def legend(axes: Axes) -> None:
    """Name the axes' colours above them on the right, where nothing is drawn."""
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderpad=0, handlelength=1.4)


def bare(axes: Axes, grid: str) -> None:
    """Leave the axes only the grid along ``x`` or ``y``."""
    axes.grid(False)
    axes.grid(True, axis=grid)  # type: ignore[arg-type]
    axes.tick_params(length=0)


def inline(drawn: Figure, name: str, says: str) -> str:
    """Return a figure as an SVG element.

    Args:
        drawn: the figure, drawn in the stand-ins' colours.
        name: letters and digits that no other figure of the page has.
        says: what it shows, for those who do not see it.
    """
    file = io.StringIO()
    drawn.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    for stand_in, variable in _VARIABLES.items():
        text = text.replace(stand_in, variable)
    width, height = (float(value) for value in re.findall(r'(?:width|height)="([\d.]+)pt"', text)[:2])
    opening = f'<svg role="img" aria-label="{escape(says)}" viewBox="0 0 {width:g} {height:g}">'
    return opening + text[text.index(">") + 1 :].strip()
