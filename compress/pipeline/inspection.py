"""What can be cut of a network: its channel groups, their ties, and the protected layers."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.fx import Node

from compress import models
from compress.core.errors import CompressError
from compress.core.files import atomic_path
from compress.core.formatting import format_count, format_millions, format_percent
from compress.core.spec import SCHEMA_VERSION, Costs, Record
from compress.cost import cost_model, dense_costs
from compress.graph import ChannelGraph, ChannelGroup, trace
from compress.graph.labels import NONE, LabeledTensor
from compress.graph.operators import operator_name, operator_of
from compress.pipeline.plan import trace_network
from compress.pipeline.request import Size
from compress.planning import narrowest_mask


class GroupRow(Record):
    """One channel group.

    Attributes:
        name: name of its first layer.
        width: number of channels that can be cut one by one; of norm groups, where a group norm keeps several
            channels together.
        blocks: number of sets of which equally many channels must be kept.
        layers: the layers that produce the channels.
        ties: operators that join them.
        macs: multiply-accumulates that produce these channels.
        macs_per_channel: cost of one channel, in all layers that produce or read it.
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
    """The channel groups of a network, as `compress inspect` shows them.

    Attributes:
        model: name of the network.
        dense: costs of the network.
        smallest: costs with one channel left in every block.
        cuttable: share of the MACs that can be cut.
        groups: the channel groups.
        protected: layers whose channels are never cut, with the reason.
    """

    schema_version: int = SCHEMA_VERSION
    model: str
    dense: Costs
    smallest: Costs
    cuttable: float
    groups: tuple[GroupRow, ...]
    protected: tuple[ProtectedRow, ...]

    def __repr__(self) -> str:
        return f"Inspection({self.model}: {self._summary()})"

    __str__ = __repr__

    def _summary(self) -> str:
        return (
            f"{format_millions(self.dense.macs)} MACs, {format_millions(self.dense.params)} parameters, "
            f"{len(self.groups)} groups, {format_percent(self.cuttable, 1)} of the MACs can be cut"
        )

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(row.name)}</td><td>{row.width}</td><td>{format_count(row.macs)}</td>"
            f"<td>{escape(', '.join(row.ties))}</td></tr>"
            for row in self.groups
        )
        header = "<tr><th>group</th><th>width</th><th>MACs</th><th>tied by</th></tr>"
        return f"<p><b>{escape(self.model)}</b>: {self._summary()}</p><table>{header}{rows}</table>"


def inspect(
    model: nn.Module | str,
    example_inputs: Tensor | None = None,
    *,
    num_classes: int | None = None,
    input_size: Size | None = None,
    weights: str | Path | None = None,
) -> Inspection:
    """Trace a network and describe its channel groups.

    Args:
        model: a network, or the name of one as for training.
        example_inputs: images `[N, C, H, W]` with N at least 2; None: random ones of `input_size`.
        num_classes: for a name; None: 10 for the built-in networks, else 1000.
        input_size: channels, height and width; None: 3x32x32 for the built-in networks, else 3x224x224.
        weights: file with weights of a network given by name.

    Raises:
        CompressError: unknown model, bad weights, or a network that cannot be traced.

    Example:
        >>> import compress
        >>> compress.inspect("resnet20")
        Inspection(resnet20: 40.81 M MACs, 272.5 k parameters, 10 groups, 99.4% of the MACs can be cut)
    """
    built_in = not isinstance(model, str) or model in models.list_models()
    size = input_size or ((3, 32, 32) if built_in else (3, 224, 224))
    if not isinstance(model, str):
        if example_inputs is None and input_size is None:
            raise CompressError(
                f"the input size of {type(model).__name__} is unknown",
                hint="pass example_inputs=torch.rand(2, 3, 224, 224) or input_size=(3, 224, 224)",
                code="input-size",
            )
        graph = trace_network(model, size) if example_inputs is None else trace(model, example_inputs)
        return describe(graph, type(model).__name__)
    num_classes = num_classes or (10 if built_in else 1000)
    network = models.build(model, num_classes, size, weights)
    return describe(trace_network(network, size), models.model_spec(model, num_classes, size).name)


def describe(graph: ChannelGraph, name: str) -> Inspection:
    """Describe a channel graph under a name."""
    keep = np.ones(graph.channels.count)
    joined = _joins(graph)
    total = cost_model(graph).macs(keep)
    rows = []
    for group in graph.groups:
        fewer = keep.copy()
        fewer[[part[0] for part in group.parts]] = 0
        ties = {op for op, channels in joined if np.isin(channels, group.channels).any()}
        rows.append(
            GroupRow(
                name=group.name,
                width=group.width,
                blocks=len(group.parts),
                layers=tuple(p.removesuffix(".weight") for p in group.producers),
                ties=tuple(sorted(ties)),
                macs=round(_producing_macs(graph, group, keep)),
                macs_per_channel=round((total - cost_model(graph).macs(fewer)) / len(group.parts)),
            )
        )
    dense, smallest = dense_costs(graph), cost_model(graph).costs(narrowest_mask(graph))
    return Inspection(
        model=name,
        dense=dense,
        smallest=smallest,
        cuttable=1 - smallest.macs / max(1, dense.macs),
        groups=tuple(rows),
        protected=tuple(ProtectedRow(**vars(p)) for p in graph.protected),
    )


def _producing_macs(graph: ChannelGraph, group: ChannelGroup, keep: Any) -> float:
    """Return the MACs that produce a group's channels: of each layer its share of the outputs."""
    total = 0.0
    for term, macs in zip(graph.facts.terms, cost_model(graph).layer_macs(keep), strict=True):
        inside = np.isin(graph.channels.at(term.outputs), group.channels)
        total += macs * inside.mean()
    return total


def _joins(graph: ChannelGraph) -> list[tuple[str, Any]]:
    """Return every operator that ties channels of two sources, and the channels it ties."""
    out = []
    for node in graph.program.graph.nodes:
        if node.op != "call_function":
            continue
        if operator_of(node).ties:
            name = operator_name(node).rstrip("_")
            operands = [_channels(graph, a) for a in node.args if isinstance(a, Node)]
            if len(operands) > 1 and all(len(o) for o in operands):
                out.append((name, np.intersect1d(operands[0], operands[1])))
    for tie in graph.channels.ties:
        every = np.concatenate(tie.rows)
        out.append((f"{_operator(graph, tie.node)} (equal counts)", every[every != NONE]))
    for rows in graph.facts.joined.values():
        channels = graph.channels.at(rows.reshape(-1))
        out.append((f"group norm of {rows.shape[1]}", channels[channels != NONE]))
    for term in graph.facts.terms:
        if term.groups == 0:
            out.append(("depthwise", graph.channels.at(term.outputs)))
    return out


def _operator(graph: ChannelGraph, name: str) -> str:
    return next((operator_name(n) for n in graph.program.graph.nodes if n.name == name), name)


def _channels(graph: ChannelGraph, node: Node) -> Any:
    value = graph.values[node]
    if not isinstance(value, LabeledTensor):
        return np.empty(0, dtype=np.int64)
    return np.unique(graph.channels.at(value.labels().numpy()))


def plot(inspection: Inspection, path: str | Path) -> None:
    """Plot the MACs of each group's layers (PNG, SVG or PDF, by the file's ending).

    Raises:
        CompressError: (exit 2) another ending, or a folder that does not exist.
    """
    import matplotlib

    path = Path(path)
    if path.suffix not in (".png", ".svg", ".pdf") or not path.absolute().parent.is_dir():
        raise CompressError(
            f"cannot draw to {str(path)!r}",
            hint="give a file ending in .png, .svg or .pdf, in a folder that exists",
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
    axes.set_xlabel("million MACs that produce the group's channels (number: its width)")
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
