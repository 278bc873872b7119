"""What can be cut of a network: its channel groups, what ties them, and what is protected and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from compress import models
from compress.core.errors import CompressError
from compress.core.files import atomic_path
from compress.core.spec import SCHEMA_VERSION, Costs, Record
from compress.graph import ChannelGraph, ChannelGroup, trace
from compress.graph.context import short
from compress.graph.labels import NONE, Lab
from compress.pipeline.request import Size

JOINS = ("add", "sub", "mul", "div", "maximum", "minimum", "where", "matmul", "bmm")
"""Operators that tie the channels of two layers when both operands carry them."""


class GroupRow(Record):
    """One channel group.

    Attributes:
        name: its first layer. width: channels that can be cut one by one; norm groups, where a group norm
            keeps several channels together. blocks: sets of which equally many
            must stay.
        layers: the layers that make the channels. ties: operators that join them.
        macs: multiply-accumulates spent on making these channels.
        macs_per_channel: what one channel costs, in all layers that make or read it.
    """

    name: str
    width: int
    blocks: int
    layers: tuple[str, ...]
    ties: tuple[str, ...]
    macs: int
    macs_per_channel: int


class ProtectedRow(Record):
    """Channels of a layer that are never cut."""

    name: str
    width: int
    why: str


class Inspection(Record):
    """What `compress inspect` finds.

    Attributes:
        smallest: costs with one channel left in every block. cuttable: share of the MACs that can go.
    """

    schema_version: int = SCHEMA_VERSION
    model: str
    dense: Costs
    smallest: Costs
    cuttable: float
    groups: tuple[GroupRow, ...]
    protected: tuple[ProtectedRow, ...]


def inspect(
    model: str,
    *,
    num_classes: int | None = None,
    input_size: Size | None = None,
    weights: str | Path | None = None,
) -> Inspection:
    """Trace a network by name and describe its channel graph.

    Args:
        model: as for training. weights: of the dense network.
        num_classes, input_size: None: 10 and 3x32x32 for the built-in networks, else 1000 and 3x224x224.

    Raises:
        CompressError: unknown model, bad weights, or a network that cannot be traced.
    """
    built_in = model in models.list_models()
    num_classes = num_classes or (10 if built_in else 1000)
    input_size = input_size or ((3, 32, 32) if built_in else (3, 224, 224))
    network = models.build(model, num_classes, input_size, weights)
    graph = trace(network, torch.rand((2, *input_size), generator=torch.Generator().manual_seed(0)))
    return describe(graph, models.model_spec(model, num_classes, input_size).name)


def describe(graph: ChannelGraph, name: str) -> Inspection:
    """The same for a graph at hand."""
    keep = np.ones(graph.classes.count)
    joined = _joins(graph)
    total = graph.cost.macs(keep)
    rows = []
    for group in graph.groups:
        fewer = keep.copy()
        fewer[[cell[0] for cell in group.cells]] = 0
        rows.append(
            GroupRow(
                name=group.name, width=group.width, blocks=len(group.cells),
                layers=tuple(p.removesuffix(".weight") for p in group.producers),
                ties=tuple(sorted({op for op, classes in joined if np.isin(classes, group.classes).any()})),
                macs=round(_making(graph, group, keep)),
                macs_per_channel=round((total - graph.cost.macs(fewer)) / len(group.cells)),
            )
        )  # fmt: skip
    dense, smallest = graph.costs, graph.cost.costs(graph.smallest())
    return Inspection(
        model=name,
        dense=dense,
        smallest=smallest,
        cuttable=1 - smallest.macs / max(1, dense.macs),
        groups=tuple(rows),
        protected=tuple(ProtectedRow(**vars(p)) for p in graph.protected),
    )


def _making(graph: ChannelGraph, group: ChannelGroup, keep: Any) -> float:
    """MACs spent on making a group's channels: of each layer its share of the outputs."""
    total = 0.0
    for term, macs in zip(graph.facts.terms, graph.cost.layer_macs(keep), strict=True):
        inside = np.isin(graph.classes.of(term.outputs), group.classes)
        total += macs * inside.mean()
    return total


def _joins(graph: ChannelGraph) -> list[tuple[str, Any]]:
    """Every operator that ties channels of two sources, and the classes it ties."""
    out = []
    for node in graph.program.graph.nodes:
        if node.op != "call_function":
            continue
        name = short(node).rstrip("_")
        if name in JOINS:
            operands = [_classes(graph, a) for a in node.args if isinstance(a, Node)]
            if len(operands) > 1 and all(len(o) for o in operands):
                out.append((name, np.intersect1d(operands[0], operands[1])))
    for tie in graph.classes.ties:
        every = np.concatenate(tie.rows)
        out.append((f"{_operator(graph, tie.node)} (equal counts)", every[every != NONE]))
    for rows in graph.facts.blocks.values():
        classes = graph.classes.of(rows.reshape(-1))
        out.append((f"group norm of {rows.shape[1]}", classes[classes != NONE]))
    for term in graph.facts.terms:
        if term.groups == 0:
            out.append(("depthwise", graph.classes.of(term.outputs)))
    return out


def _operator(graph: ChannelGraph, name: str) -> str:
    return next((short(n) for n in graph.program.graph.nodes if n.name == name), name)


def _classes(graph: ChannelGraph, node: Node) -> Any:
    value = graph.values[node]
    if not isinstance(value, Lab):
        return np.empty(0, dtype=np.int64)
    return np.unique(graph.classes.of(value.labels().numpy()))


def plot(inspection: Inspection, path: str | Path) -> None:
    """Draw the MACs of each group's layers as a picture (PNG, SVG or PDF by the file's ending).

    Raises:
        CompressError: (exit 2) another ending, or a folder that is not there.
    """
    import matplotlib

    path = Path(path)
    if path.suffix not in (".png", ".svg", ".pdf") or not path.absolute().parent.is_dir():
        raise CompressError(
            f"cannot draw to {str(path)!r}",
            hint="give a file ending in .png, .svg or .pdf, in a folder that is there",
            code="bad-plot",
        )

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = inspection.groups
    figure, axes = pyplot.subplots(figsize=(9, max(2.0, 0.24 * len(rows) + 1.2)), layout="constrained")
    axes.barh([r.name for r in rows], [r.macs / 1e6 for r in rows], color="#3b6ea5")
    for i, row in enumerate(rows):
        axes.text(row.macs / 1e6, i, f" {row.width}", va="center", fontsize=7, color="#444444")
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel("million MACs spent on making the group's channels (number: its width)")
    axes.set_title(
        f"{inspection.model}: {inspection.dense.macs / 1e6:,.1f}M MACs, {inspection.cuttable:.1%} can be cut",
        fontsize=10,
    )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format=path.suffix[1:])
    pyplot.close(figure)


__all__ = ["GroupRow", "Inspection", "ProtectedRow", "describe", "inspect", "plot"]
