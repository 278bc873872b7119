"""A staircase for people: the widths of a layer, or the layers of a network with what their steps are."""

from __future__ import annotations

import statistics

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from compress.bench.results.value_range import BUSY
from compress.bench.staircase.pipeline import Staircase
from compress.bench.staircase.plot import AXIS_WORDS
from compress.cost.latency import Curve, Entry

WHOLE = 2
"""Up to so many curves are shown width by width."""

LEGEND = (
    "worth choosing: no larger width is as fast, beyond the noise floor and 2%. "
    "+1: what one channel more than a multiple costs, median."
)


def table(found: Staircase) -> Group:
    """Return the tables for a Rich console."""
    curves = [(entry, curve) for entry in found.measured for curve in entry.curves]
    own = found.table
    parts: list[RenderableType] = []
    if len(curves) <= WHOLE:
        parts += [_widths(entry, curve) for entry, curve in curves]
    parts.append(_curves(found))
    threads = f"{own.threads} thread{'' if own.threads == 1 else 's'}"
    foot = f"{LEGEND}\n{own.device}, {threads}, batch {own.batch}"
    if own.others_load > BUSY:
        foot += f"; other processes took up to {own.others_load:.0%} of the processors"
    return Group(*parts, Text(foot, style="dim"))


def _widths(entry: Entry, curve: Curve) -> Table:
    made = Table(title=f"{entry.layers[0]}: {entry.shape}", title_justify="left")
    for name in (AXIS_WORDS[curve.axis], "ms", "of the full", "95% interval", "as fast as"):
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


def _curves(found: Staircase) -> Table:
    own = found.table
    made = Table(title=f"{own.network} on {own.backend}: latency against width", title_justify="left")
    made.add_column("layer")
    made.add_column("side")
    for name in ("full", "ms", "noise floor", "rounds", "+1 to 8", "+1 to 16", "worth choosing"):
        made.add_column(name, justify="right")
    for entry in found.measured:
        more = f" (+{len(entry.layers) - 1})" if len(entry.layers) > 1 else ""
        for curve in entry.curves:
            made.add_row(
                f"{entry.layers[0]}{more}",
                curve.axis,
                str(curve.full),
                f"{curve.full_ms:.3f}",
                f"{curve.floor:.1%}",
                str(curve.rounds),
                _percent(one_more(curve, 8)),
                _percent(one_more(curve, 16)),
                ", ".join(map(str, curve.edges)),
            )
    return made


def one_more(curve: Curve, block: int) -> float | None:
    """Median change of the time from a multiple of `block` to one channel more; None where none was measured.

    Of 8, the multiples of 16 are left out.
    """
    known = {point.width: point.ratio for point in curve.points}
    found = [
        known[width + 1] / known[width] - 1
        for width in known
        if width % block == 0 and width + 1 in known and (block != 8 or width % 16)
    ]
    return statistics.median(found) if found else None


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.0%}"
