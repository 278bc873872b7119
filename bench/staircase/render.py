"""Render a staircase as Rich tables: the widths of a layer, or the best widths of all layers."""

from __future__ import annotations

import statistics

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from compress.bench.results.value_range import BUSY
from compress.bench.staircase.pipeline import StaircaseResult
from compress.bench.staircase.plot import AXIS_LABELS
from compress.cost.latency import Curve, Entry

MAX_DETAILED = 2
"""Up to this many curves are shown width by width."""

LEGEND = (
    "best widths: no larger width is as fast, beyond the noise floor and 2%. "
    "+1: median cost of one channel more than a multiple."
)


def render_staircase(result: StaircaseResult) -> Group:
    """Return the tables of a result for a Rich console."""
    curves = [(entry, curve) for entry in result.measured for curve in entry.curves]
    table = result.table
    parts: list[RenderableType] = []
    if len(curves) <= MAX_DETAILED:
        parts += [_width_table(entry, curve) for entry, curve in curves]
    parts.append(_curve_table(result))
    threads = f"{table.threads} thread{'' if table.threads == 1 else 's'}"
    footnote = f"{LEGEND}\n{table.device}, {threads}, batch {table.batch}"
    if table.others_load > BUSY:
        footnote += f"; other processes used up to {table.others_load:.0%} of the processors"
    return Group(*parts, Text(footnote, style="dim"))


def _width_table(entry: Entry, curve: Curve) -> Table:
    made = Table(title=f"{entry.layers[0]}: {entry.shape}", title_justify="left")
    for name in (AXIS_LABELS[curve.axis], "ms", "of the full", "95% interval", "larger, as fast"):
        made.add_column(name, justify="right")
    for point in curve.points:
        best = curve.best_width(point.width)
        made.add_row(
            str(point.width),
            f"{curve.full_ms * point.ratio:.4f}",
            f"{point.ratio:.1%}",
            f"{point.low:.1%} to {point.high:.1%}",
            "" if best == point.width else str(best),
        )
    return made


def _curve_table(result: StaircaseResult) -> Table:
    title = f"{result.table.network} on {result.table.backend}: latency over width"
    made = Table(title=title, title_justify="left")
    made.add_column("layer")
    made.add_column("axis")
    for name in ("full", "ms", "noise floor", "rounds", "+1 to 8", "+1 to 16", "best widths"):
        made.add_column(name, justify="right")
    for entry in result.measured:
        more = f" (+{len(entry.layers) - 1})" if len(entry.layers) > 1 else ""
        for curve in entry.curves:
            made.add_row(
                f"{entry.layers[0]}{more}",
                curve.axis,
                str(curve.full),
                f"{curve.full_ms:.3f}",
                f"{curve.floor:.1%}",
                str(curve.rounds),
                _percent(cost_of_one_more(curve, 8)),
                _percent(cost_of_one_more(curve, 16)),
                ", ".join(map(str, curve.edges)),
            )
    return made


def cost_of_one_more(curve: Curve, block: int) -> float | None:
    """Return the median relative change of time from a multiple of `block` to one channel more.

    For a block of 8, multiples of 16 are excluded. None if no such pair of widths was measured.
    """
    ratios = {point.width: point.ratio for point in curve.points}
    changes = [
        ratios[width + 1] / ratios[width] - 1
        for width in ratios
        if width % block == 0 and width + 1 in ratios and (block != 8 or width % 16)
    ]
    return statistics.median(changes) if changes else None


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.0%}"
