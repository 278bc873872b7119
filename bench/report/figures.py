"""The report's figures. Each function returns an SVG element, or None where there is nothing to show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from compress.bench.report import svg
from compress.bench.report.facts import LayerRow, LineageRow, Measured
from compress.bench.report.svg import COMPACT, DENSE, INK, MUTED, THIRD

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STAGE_COLOURS = {"dense": DENSE, "narrow": COMPACT, "exported": THIRD}

LAYER_LIMIT = 60
"""Most layers in a figure; of a deeper network those with the most MACs are shown."""

LAYER_INCHES = 0.19
NAME_LENGTH = 26
"""Longest name in a figure; of a longer one the end is shown."""


def accuracy_over_latency(
    rows: Sequence[LineageRow], backend: str, batch: int, name: str, several: bool
) -> str | None:
    """Accuracy against median latency on one back end; latency alone is a line."""
    points = [
        (row, found.times.p50_ms)
        for row in rows
        for found in row.measured
        if (found.backend, found.batch) == (backend, batch)
    ]
    if not any(row.top1 is not None for row, _ in points):
        return None
    widest = max(ms for _, ms in points)
    with svg.styled():
        figure = svg.figure(2.8)
        axes = figure.add_subplot()
        axes.tick_params(length=0)
        for row, ms in points:
            label = short(f"{row.run} {row.label}" if several else row.label)
            colour = STAGE_COLOURS[row.stage]
            if row.top1 is None:
                axes.axvline(ms, color=colour, linestyle=(0, (4, 3)), linewidth=1.4)
                axes.annotate(
                    f"{label}, accuracy unknown", (ms, 1.0), xycoords=("data", "axes fraction"),
                    xytext=(0, 3), textcoords="offset points", ha="right" if ms > widest / 2 else "left",
                    va="bottom", color=MUTED, fontsize=8.5,
                )  # fmt: skip
            else:
                axes.plot(ms, 100 * row.top1, "o", markersize=8, color=colour)
        _name_points(axes, points, several)
        axes.set_xlim(0, 1.15 * widest)
        axes.margins(y=0.35)
        low, high = axes.get_ylim()
        axes.set_ylim(max(0.0, low - 1), min(100.5, high + 1))
        axes.set(xlabel=f"median latency, ms ({backend}, batch {batch})", ylabel="top-1, %")
        return svg.inline(figure, name, f"Accuracy over latency on {backend}, batch {batch}")


def _name_points(axes: Axes, points: Sequence[tuple[LineageRow, float]], several: bool) -> None:
    """Write the names beside the points: to the left in the right half, every other one lower."""
    widest = max(ms for _, ms in points)
    known = sorted((p for p in points if p[0].top1 is not None), key=lambda p: (p[1], -(p[0].top1 or 0)))
    for i, (row, ms) in enumerate(known):
        left = ms > 0.6 * widest
        near = i % 2 if len(known) > 1 else 0
        axes.annotate(
            short(f"{row.run} {row.label}" if several else row.label),
            (ms, 100 * (row.top1 or 0.0)),
            xytext=(-8 if left else 8, -11 if near else 8),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            color=INK,
            fontsize=8.5,
        )


def speedups(entries: Sequence[tuple[str, Measured]], name: str) -> str | None:
    """Every speed-up with its interval, the noise floor around 1, and what the MACs promise."""
    found = [(label, m, m.speedup) for label, m in entries if m.speedup is not None]
    if not found:
        return None
    with svg.styled():
        figure = svg.figure(0.75 + 0.36 * len(found))
        axes = figure.add_subplot()
        svg.bare(axes, "x")
        for i, (_, entry, ratio) in enumerate(found):
            if entry.floor is not None:
                ends = math.exp(-entry.floor), math.exp(entry.floor)
                axes.barh(i, ends[1] - ends[0], left=ends[0], height=0.62, color=DENSE, alpha=0.22)
            axes.plot([ratio.low, ratio.high], [i, i], color=COMPACT, linewidth=2.4, solid_capstyle="round")
            axes.plot(ratio.ratio, i, "o", color=COMPACT, markersize=6)
            if entry.mac_reduction is not None and entry.mac_reduction > 1.005:
                axes.plot(entry.mac_reduction, i, "|", color=THIRD, markersize=14, markeredgewidth=2)
        axes.axvline(1, color=MUTED, linewidth=1)
        axes.set_yticks(range(len(found)), [_comparison(label, entry) for label, entry, _ in found])
        axes.set_ylim(len(found) - 0.5, -0.5)
        right = max(max(ratio.high, entry.mac_reduction or 0.0) for _, entry, ratio in found)
        axes.set_xlim(min(0.9, 0.95 * min(ratio.low for _, _, ratio in found)), 1.08 * max(right, 1.1))
        axes.set_xlabel("times as fast as its baseline")
        return svg.inline(figure, name, "Speed-ups with their 95% intervals")


def _comparison(label: str, entry: Measured) -> str:
    return f"{short(label)}\n{entry.backend}, batch {entry.batch}"


def layers(rows: Sequence[LayerRow], name: str) -> str | None:
    """Width and MACs of each layer, dense behind compact; times too where they were measured."""
    if not rows:
        return None
    shown = sorted(rows, key=lambda row: -row.macs)[:LAYER_LIMIT]
    kept = [row for row in rows if row in shown][:LAYER_LIMIT]
    panels = [
        ("width", [row.width for row in kept], [row.narrow_width for row in kept]),
        ("MACs, million", [row.macs / 1e6 for row in kept], [row.narrow_macs / 1e6 for row in kept]),
    ]
    if any(row.dense_ms is not None and row.compact_ms is not None for row in kept):
        panels.append(
            ("time, ms", [row.dense_ms or 0.0 for row in kept], [row.compact_ms or 0.0 for row in kept])
        )
    with svg.styled():
        figure = svg.figure(0.85 + LAYER_INCHES * len(kept))
        every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (title, dense, compact) in zip(every, panels, strict=True):
            svg.bare(axes, "x")
            axes.barh(range(len(kept)), dense, height=0.78, color=DENSE, alpha=0.45, label="dense")
            axes.barh(range(len(kept)), compact, height=0.42, color=COMPACT, label="compact")
            axes.set_title(title)
        every[0].set_yticks(range(len(kept)), [short(row.name) for row in kept])
        every[0].set_ylim(len(kept) - 0.4, -0.6)
        figure.legend(*every[0].get_legend_handles_labels(), loc="outside lower left", ncols=2)
        return svg.inline(figure, name, "Width and MACs of each layer, dense and compact")


def training(rows: Sequence[dict[str, Any]], name: str) -> str | None:
    """Loss and accuracy over the epochs."""
    if not rows:
        return None
    epochs = [row["epoch"] for row in rows]
    with svg.styled():
        figure = svg.figure(3.3)
        loss, top1 = figure.subplots(2, 1, sharex=True)
        for axes, kind, scale in ((loss, "loss", 1), (top1, "top1", 100)):
            for part, colour in (("train", DENSE), ("test", COMPACT)):
                values = [_scaled(row.get(f"{part}_{kind}"), scale) for row in rows]
                axes.plot(epochs, values, color=colour, label=part, marker="." if len(rows) < 30 else "")
            svg.bare(axes, "y")
        loss.set_title("loss")
        loss.set_ylim(bottom=0)
        svg.legend(loss)
        top1.set_title("top-1, %")
        _epochs(top1)
        return svg.inline(figure, name, "Loss and accuracy over the epochs")


def gates(rows: Sequence[dict[str, Any]], method: str, name: str) -> str | None:
    """How many gates closed and opened again in each epoch, and the share of the cost that was left."""
    logged = [row for row in rows if f"{method}_closed" in row and f"{method}_reopened" in row]
    if not logged:
        return None
    epochs = [row["epoch"] for row in logged]
    kind = next((k for k in ("macs", "params") if f"{method}_{k}" in logged[0]), None)
    with svg.styled():
        figure = svg.figure(3.3 if kind else 2.0)
        every = figure.subplots(2 if kind else 1, 1, sharex=True, squeeze=False)[:, 0]
        moves = every[0]
        moves.bar(epochs, [row[f"{method}_closed"] for row in logged], color=COMPACT, label="closed")
        reopened = [-float(row[f"{method}_reopened"]) for row in logged]
        moves.bar(epochs, reopened, color=THIRD, label="opened again")
        moves.axhline(0, color=MUTED, linewidth=0.8)
        moves.set_title("gates an epoch")
        svg.legend(moves)
        if kind:
            left = [_scaled(row[f"{method}_{kind}"], 100) for row in logged]
            every[1].plot(epochs, left, color=COMPACT, marker="." if len(logged) < 30 else "")
            every[1].set_ylim(0, 105)
            every[1].set_title(
                f"{'MACs' if kind == 'macs' else 'parameters'} with the open gates, % of the dense"
            )
        for axes in every:
            svg.bare(axes, "y")
        _epochs(every[-1])
        return svg.inline(figure, name, "Gates that closed and opened again, epoch by epoch")


def _epochs(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.set_xlabel("epoch")


def _scaled(value: float | None, scale: float) -> float:
    return float("nan") if value is None else value * scale


def short(text: str) -> str:
    """A name that fits beside a figure."""
    return text if len(text) <= NAME_LENGTH else "…" + text[1 - NAME_LENGTH :]
