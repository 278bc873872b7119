"""Stage ends: the feature maps just before each reduction of resolution.

In the traced graph of any network, a stage ends at the last activation (or join of branches) of each
resolution that all data flows through. Since a hook needs a module, each of these nodes is matched with a
call of a module that returns the same value.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.fx import Interpreter, Node

from compress.graph.operators import operator_of
from compress.graph.program import evaluating, parameter_names
from compress.graph.rule_context import static_shape

if TYPE_CHECKING:
    from compress.graph.channel_graph import ChannelGraph


@dataclass(frozen=True)
class StageEnd:
    """The end of a stage.

    Attributes:
        module: path of the module that returns it.
        call: which call of the module in a forward pass, from 0.
        channels, size: channels, height and width of the features.
    """

    module: str
    call: int
    channels: int
    size: tuple[int, int]


def stage_ends(graph: ChannelGraph) -> list[StageEnd]:
    """Return the ends of the stages in order; empty for a network without feature maps."""
    levels = _levels(graph)
    candidates = {node for nodes in levels for node in nodes}
    values = _values(graph, candidates)
    calls = _calls(graph.model, graph.inputs)
    out = []
    for nodes in levels:
        for node in nodes:
            call = next((c for c in reversed(calls) if _same(c[2], values[node])), None)
            if call is not None:
                _, channels, height, width = static_shape(node)
                out.append(StageEnd(call[0], call[1], channels, (height, width)))
                break
    return out


def _levels(graph: ChannelGraph) -> list[list[Node]]:
    """For each resolution the nodes that all data flows through, the best end of a stage first."""
    levels: dict[tuple[int, int], list[Node]] = {}
    for node in _bottlenecks(graph):
        shape = static_shape(node) if hasattr(node.meta.get("val"), "shape") else ()
        lowest = min((h * w for h, w in levels), default=shape[2] * shape[3] if len(shape) == 4 else 0)
        if len(shape) == 4 and 1 < shape[2] * shape[3] <= lowest:
            levels.setdefault((shape[2], shape[3]), []).append(node)
    return [
        sorted(nodes, key=lambda node: (_rank(node), -nodes.index(node))) for nodes in list(levels.values())
    ]


def _rank(node: Node) -> int:
    row = operator_of(node)
    return 0 if row.activation or row.join else 1


def _bottlenecks(graph: ChannelGraph) -> Iterator[Node]:
    """Nodes on every way from the input to the output."""
    nodes = list(graph.program.graph.nodes)
    order = {node: i for i, node in enumerate(nodes)}
    names = parameter_names(graph.program)
    data = {node for node in nodes if node.op == "placeholder" and node.name not in names}
    reach = max((order[u] for node in data for u in node.users), default=0)
    for i, node in enumerate(nodes):
        if node.op == "call_function" and any(a in data for a in node.all_input_nodes):
            if operator_of(node).bookkeeping:
                continue
            data.add(node)
            if reach <= i:
                yield node
            reach = max(reach, *(order[u] for u in node.users), i)


class _Recorder(Interpreter):
    def __init__(self, module: torch.fx.GraphModule, names: set[str]) -> None:
        super().__init__(module)
        self.names = names
        self.values: dict[str, Any] = {}

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if n.name in self.names:
            self.values[n.name] = value
        return value


@torch.no_grad()
def _values(graph: ChannelGraph, nodes: set[Node]) -> dict[Node, Any]:
    """Return the values of nodes for the example inputs."""
    program, names = graph.program, parameter_names(graph.program)
    tensors = {**program.state_dict, **program.constants}
    lifted = program.graph_signature.inputs_to_lifted_tensor_constants
    inputs = iter(graph.inputs)
    args: list[Any] = []
    for node in program.graph.nodes:
        if node.op == "placeholder":
            name = names.get(node.name, lifted.get(node.name))
            args.append(tensors[name] if name is not None else next(inputs))
    recorder = _Recorder(program.graph_module, {node.name for node in nodes})
    recorder.run(*args)
    return {node: recorder.values[node.name] for node in nodes}


@torch.no_grad()
def _calls(model: nn.Module, inputs: tuple[Any, ...]) -> list[tuple[str, int, Tensor]]:
    """Every call of a submodule that gives a feature map: path, number of the call, output."""
    calls: list[tuple[str, int, Tensor]] = []
    counts: dict[str, int] = {}

    def recorder(path: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            counts[path] = counts.get(path, -1) + 1
            if isinstance(output, Tensor) and output.dim() == 4:
                calls.append((path, counts[path], output))

        return hook

    with (
        _hooks([m.register_forward_hook(recorder(p)) for p, m in model.named_modules() if p]),
        evaluating(model),
    ):
        model(*inputs)
    return calls


@contextmanager
def _hooks(handles: list[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _same(a: Tensor, b: Any) -> bool:
    return isinstance(b, Tensor) and a.shape == b.shape and bool(torch.allclose(a, b, rtol=1e-4, atol=1e-5))


__all__ = ["StageEnd", "stage_ends"]
