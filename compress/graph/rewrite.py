"""A traced copy of a network whose forward code has widths baked in.

Where a forward hard-codes a number that a cut changes (a pad, the sizes of a split or a view), the module's
own code cannot run narrow. The copy is a `torch.fx.GraphModule` with the same parameter names; it trains,
evaluates and exports as usual.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.fx import GraphModule, Node

from ..errors import CompressError, Exit

if TYPE_CHECKING:
    from .plan import SlicePlan

TRAINING_FLAG = {"batch_norm": 5, "instance_norm": 5, "dropout": 2, "feature_dropout": 2, "alpha_dropout": 2}
"""Position of the argument that says whether an operator is training."""


class TracedModel(GraphModule):
    """A graph with the parameters of a network; `train` and `eval` set the operators' own flags."""

    def train(self, mode: bool = True) -> TracedModel:
        """Switch batch norms and dropouts as well."""
        changed = False
        for node in self.graph.nodes:
            flag = TRAINING_FLAG.get(_name(node))
            if flag is not None and len(node.args) > flag and node.args[flag] is not mode:
                node.update_arg(flag, mode)
                changed = True
        if changed:
            self.recompile()
        super().train(mode)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> TracedModel:
        holder = nn.Module()
        holder.__dict__.update({k: copy.deepcopy(v, memo) for k, v in self.__dict__.items()
                                if k in ("_parameters", "_buffers", "_modules", "training",
                                         "_non_persistent_buffers_set")})
        return TracedModel(holder, copy.deepcopy(self.graph))


def _name(node: Node) -> str:
    return str(node.target).removeprefix("aten.").split(".")[0].rstrip("_") if node.op == "call_function" else ""


def traced_copy(model: nn.Module, plan: SlicePlan) -> TracedModel:
    """The network as a graph, with the plan's new constants; parameters are shared, still dense.

    Raises:
        CompressError: (exit 4) the rewrites do not fit what `torch.export` makes of the model here.
    """
    from .trace import export_program

    example = next(iter(model.parameters()), torch.zeros(()))
    inputs = tuple(torch.zeros(shape, device=example.device) for shape in plan.input_shapes)
    program = export_program(model, inputs)
    nodes = {node.name: node for node in program.graph.nodes}
    for name, (target, args) in plan.rewrites.items():
        node = nodes.get(name)
        if node is None or node.op != "call_function":
            raise CompressError(
                f"the plan rewrites the operator {name}, which this trace of the model does not have",
                hint="the plan was made with another version of torch; make it again", code="plan-mismatch",
                exit=Exit.BUILD,
            )
        node.target = _operator(target)
        node.args = tuple(_value(a, nodes) for a in args)
        node.kwargs = {}
    module = program.module(check_guards=False) if _has_guard_switch(program) else program.module()
    return _plain(module, model)


def _has_guard_switch(program: Any) -> bool:
    import inspect

    return "check_guards" in inspect.signature(program.module).parameters


def _plain(module: nn.Module, model: nn.Module) -> TracedModel:
    """The exported module without its input checks, holding the model's own parameters."""
    assert isinstance(module, GraphModule)
    for node in list(module.graph.nodes):
        if node.op == "call_module" and not node.users:
            module.graph.erase_node(node)
    traced = TracedModel(module, module.graph)
    own = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}
    for name, tensor in own.items():
        _place(traced, name, tensor)
    traced.recompile()
    return traced


def _place(root: nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Put a parameter or buffer under its full name, making plain modules on the way."""
    *path, last = name.split(".")
    for part in path:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        child = root._modules[part]
        assert child is not None
        root = child
    if isinstance(tensor, nn.Parameter):
        root._buffers.pop(last, None)
        root._parameters[last] = tensor
    else:
        root._parameters.pop(last, None)
        root._buffers[last] = tensor


def _operator(text: str) -> Any:
    """An ATen operator by name: `aten.view.default`."""
    namespace, name, overload = text.split(".")
    return getattr(getattr(getattr(torch.ops, namespace), name), overload)


def _value(item: Any, nodes: dict[str, Node]) -> Any:
    if isinstance(item, dict):
        return nodes[item["node"]]
    return [_value(i, nodes) for i in item] if isinstance(item, list) else item


__all__ = ["TracedModel", "traced_copy"]
