"""Figures of the report. Each function returns an SVG element, or None if there is nothing to show.

The argument `name` of each function must be unique among the figures of the page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from compress.bench.explain.record import Explanation
from compress.bench.report import svg
from compress.bench.report.facts import LayerRow, LineageRow, Measured
from compress.bench.report.svg import COMPACT, DENSE, INK, MUTED, THIRD

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STAGE_COLORS = {"dense": DENSE, "narrow": COMPACT, "exported": THIRD}

MAX_LAYERS = 60
"""Most layers in a figure; of a deeper network, those with the most MACs are shown."""

LAYER_INCHES = 0.19
MAX_NAME_LENGTH = 26
"""Longest name in a figure; longer names are cut at the start."""


def draw_accuracy_over_latency(
    rows: Sequence[LineageRow], backend: str, batch: int, name: str, several: bool
) -> str | None:
    """Draw accuracy over median latency on one back end; without accuracy, a network is a vertical line."""
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
            label = shorten(f"{row.run} {row.label}" if several else row.label)
            color = STAGE_COLORS[row.stage]
            if row.top1 is None:
                axes.axvline(ms, color=color, linestyle=(0, (4, 3)), linewidth=1.4)
                axes.annotate(
                    f"{label}, accuracy unknown", (ms, 1.0), xycoords=("data", "axes fraction"),
                    xytext=(0, 3), textcoords="offset points", ha="right" if ms > widest / 2 else "left",
                    va="bottom", color=MUTED, fontsize=8.5,
                )  # fmt: skip
            else:
                axes.plot(ms, 100 * row.top1, "o", markersize=8, color=color)
        _label_points(axes, points, several)
        axes.set_xlim(0, 1.15 * widest)
        axes.margins(y=0.35)
        low, high = axes.get_ylim()
        axes.set_ylim(max(0.0, low - 1), min(100.5, high + 1))
        axes.set(xlabel=f"median latency, ms ({backend}, batch {batch})", ylabel="top-1, %")
        return svg.inline(figure, name, f"Accuracy over latency on {backend}, batch {batch}")


def _label_points(axes: Axes, points: Sequence[tuple[LineageRow, float]], several: bool) -> None:
    """Label the points: on their left in the right half of the figure, every other label lower."""
    widest = max(ms for _, ms in points)
    known = sorted((p for p in points if p[0].top1 is not None), key=lambda p: (p[1], -(p[0].top1 or 0)))
    for i, (row, ms) in enumerate(known):
        left = ms > 0.6 * widest
        near = i % 2 if len(known) > 1 else 0
        axes.annotate(
            shorten(f"{row.run} {row.label}" if several else row.label),
            (ms, 100 * (row.top1 or 0.0)),
            xytext=(-8 if left else 8, -11 if near else 8),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            color=INK,
            fontsize=8.5,
        )


def draw_speedups(entries: Sequence[tuple[str, Measured]], name: str) -> str | None:
    """Draw every speed-up with its interval, the noise floor around 1, and the MAC reduction."""
    rows = [(label, m, m.speedup) for label, m in entries if m.speedup is not None]
    if not rows:
        return None
    with svg.styled():
        figure = svg.figure(0.75 + 0.36 * len(rows))
        axes = figure.add_subplot()
        svg.grid_only(axes, "x")
        for i, (_, entry, ratio) in enumerate(rows):
            if entry.floor is not None:
                ends = math.exp(-entry.floor), math.exp(entry.floor)
                axes.barh(i, ends[1] - ends[0], left=ends[0], height=0.62, color=DENSE, alpha=0.22)
            axes.plot([ratio.low, ratio.high], [i, i], color=COMPACT, linewidth=2.4, solid_capstyle="round")
            axes.plot(ratio.ratio, i, "o", color=COMPACT, markersize=6)
            if entry.mac_reduction is not None and entry.mac_reduction > 1.005:
                axes.plot(entry.mac_reduction, i, "|", color=THIRD, markersize=14, markeredgewidth=2)
        axes.axvline(1, color=MUTED, linewidth=1)
        axes.set_yticks(range(len(rows)), [_comparison(label, entry) for label, entry, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        right = max(max(ratio.high, entry.mac_reduction or 0.0) for _, entry, ratio in rows)
        axes.set_xlim(min(0.9, 0.95 * min(ratio.low for _, _, ratio in rows)), 1.08 * max(right, 1.1))
        axes.set_xlabel("speed-up over the baseline")
        return svg.inline(figure, name, "Speed-ups with their 95% intervals")


def _comparison(label: str, entry: Measured) -> str:
    return f"{shorten(label)}\n{entry.backend}, batch {entry.batch}"


def draw_layers(rows: Sequence[LayerRow], name: str) -> str | None:
    """Draw width and MACs of each layer, compact in front of dense, and times if they were measured."""
    if not rows:
        return None
    shown = sorted(rows, key=lambda row: -row.macs)[:MAX_LAYERS]
    kept = [row for row in rows if row in shown][:MAX_LAYERS]
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
            svg.grid_only(axes, "x")
            axes.barh(range(len(kept)), dense, height=0.78, color=DENSE, alpha=0.45, label="dense")
            axes.barh(range(len(kept)), compact, height=0.42, color=COMPACT, label="compact")
            axes.set_title(title)
        every[0].set_yticks(range(len(kept)), [shorten(row.name) for row in kept])
        every[0].set_ylim(len(kept) - 0.4, -0.6)
        figure.legend(*every[0].get_legend_handles_labels(), loc="outside lower left", ncols=2)
        return svg.inline(figure, name, "Width and MACs of each layer, dense and compact")


def draw_layer_losses(explanation: Explanation, name: str) -> str | None:
    """Draw time, MACs and lost time of each row of an explanation; at most `MAX_LAYERS`, the slowest ones."""
    rows = [row for row in explanation.rows if row.kind != "remainder"]
    slowest = sorted(rows, key=lambda row: -max(row.dense.ms, row.compact.ms))[:MAX_LAYERS]
    kept = [row for row in rows if row in slowest]
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
            svg.grid_only(axes, "x")
        time.set_yticks(places, [shorten(row.name) for row in kept])
        time.set_ylim(len(kept) - 0.4, -0.6)
        handles = [handle for axes in (time, lost) for handle in axes.get_legend_handles_labels()[0]]
        figure.legend(handles=handles, loc="outside lower left", ncols=3)
        description = f"Time, MACs and lost time of each layer on {explanation.backend}"
        return svg.inline(figure, name, description)


def draw_training(rows: Sequence[dict[str, Any]], name: str) -> str | None:
    """Draw loss and accuracy over the epochs."""
    if not rows:
        return None
    epochs = [row["epoch"] for row in rows]
    with svg.styled():
        figure = svg.figure(3.3)
        loss, top1 = figure.subplots(2, 1, sharex=True)
        for axes, kind, scale in ((loss, "loss", 1), (top1, "top1", 100)):
            for part, color in (("train", DENSE), ("test", COMPACT)):
                values = [_scaled(row.get(f"{part}_{kind}"), scale) for row in rows]
                axes.plot(epochs, values, color=color, label=part, marker="." if len(rows) < 30 else "")
            svg.grid_only(axes, "y")
        loss.set_title("loss")
        loss.set_ylim(bottom=0)
        svg.legend(loss)
        top1.set_title("top-1, %")
        _label_epochs(top1)
        return svg.inline(figure, name, "Loss and accuracy over the epochs")


def draw_gates(rows: Sequence[dict[str, Any]], method: str, name: str) -> str | None:
    """Draw the gates that closed and reopened in each epoch, and the remaining share of the cost."""
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
        moves.bar(epochs, reopened, color=THIRD, label="reopened")
        moves.axhline(0, color=MUTED, linewidth=0.8)
        moves.set_title("gates per epoch")
        svg.legend(moves)
        if kind:
            remaining = [_scaled(row[f"{method}_{kind}"], 100) for row in logged]
            every[1].plot(epochs, remaining, color=COMPACT, marker="." if len(logged) < 30 else "")
            every[1].set_ylim(0, 105)
            every[1].set_title(
                f"{'MACs' if kind == 'macs' else 'parameters'} with the open gates, % of the dense"
            )
        for axes in every:
            svg.grid_only(axes, "y")
        _label_epochs(every[-1])
        return svg.inline(figure, name, "Gates that closed and reopened in each epoch")


def _label_epochs(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.set_xlabel("epoch")


def _scaled(value: float | None, scale: float) -> float:
    return float("nan") if value is None else value * scale


def shorten(text: str) -> str:
    """Return a name that fits next to a figure."""
    return text if len(text) <= MAX_NAME_LENGTH else "…" + text[1 - MAX_NAME_LENGTH :]
