"""Bars of each layer for the report: time and MACs, dense against compact, and what was lost."""

from __future__ import annotations

from compress.bench.explain.record import Explanation
from compress.bench.report import svg
from compress.bench.report.figures import LAYER_INCHES, LAYER_LIMIT, short
from compress.bench.report.svg import COMPACT, DENSE, MUTED, THIRD


def layer_bars(found: Explanation, name: str) -> str | None:
    """Return an SVG element, or None where there is no layer; `name` is one no other figure of the page has.

    Of a network of more than `LAYER_LIMIT` rows those that took the most time are shown.
    """
    rows = [row for row in found.rows if row.kind != "remainder"]
    most = sorted(rows, key=lambda row: -max(row.dense.ms, row.compact.ms))[:LAYER_LIMIT]
    kept = [row for row in rows if row in most]
    if not kept:
        return None
    places = range(len(kept))
    with svg.styled():
        figure = svg.figure(0.95 + LAYER_INCHES * len(kept))
        time, macs, lost = figure.subplots(1, 3, sharey=True)
        for axes, title, dense, compact in (
            (time, "time, ms", [row.dense.ms for row in kept], [row.compact.ms for row in kept]),
            (
                macs,
                "MACs, million",
                [(row.dense.macs or 0) / 1e6 for row in kept],
                [(row.compact.macs or 0) / 1e6 for row in kept],
            ),
        ):
            axes.barh(places, dense, height=0.78, color=DENSE, alpha=0.45, label="dense")
            axes.barh(places, compact, height=0.42, color=COMPACT, label="compact")
            axes.set_title(title)
        lost.barh(places, [row.loss_ms for row in kept], height=0.6, color=THIRD, label="lost")
        lost.axvline(0, color=MUTED, linewidth=0.8)
        lost.set_title("lost, ms")
        for axes in (time, macs, lost):
            svg.bare(axes, "x")
        time.set_yticks(places, [short(row.name) for row in kept])
        time.set_ylim(len(kept) - 0.4, -0.6)
        handles = [
            handle for axes in (time, lost) for handle in axes.get_legend_handles_labels()[0]
        ]  # fmt: skip
        figure.legend(handles=handles, loc="outside lower left", ncols=3)
        return svg.inline(figure, name, f"Time and MACs of each layer on {found.backend}, and what each lost")
