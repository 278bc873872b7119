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

from compress.core.errors import CompressError, Exit
from compress.graph.computed_weights import compute_weight, find_computed_weights, replace_by_parameter
from compress.graph.operators import operator_of
from compress.graph.program import export_program
from compress.graph.slice_plan import EVALUATES_ONLY, FOLD, PICK, SHARE

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from compress.graph.slice_plan import SlicePlan

BUFFER = "_positions_"


class TracedModel(GraphModule):
    """A graph with the parameters of a network; `train` and `eval` set the operators' own flags."""

    def train(self, mode: bool = True) -> TracedModel:
        """Switch batch norms and dropouts as well.

        Raises:
            CompressError: (exit 4) the trace has lost an operator that only acts in training.
        """
        lost = self.meta.get(EVALUATES_ONLY)
        if mode and lost:
            raise CompressError(
                f"the traced copy cannot train: the trace in eval mode has no {', '.join(lost)}",
                hint="write the forward without in-place writes into parts of a tensor, or evaluate only",
                code="traced-evaluates-only", exit=Exit.BUILD,
            )  # fmt: skip
        changed = False
        for node in self.graph.nodes:
            row = operator_of(node)
            flag = row.training_flag
            if flag is not None and row.norm and node.args[3] is None:
                continue  # a norm without running statistics always uses those of its input
            if flag is not None and len(node.args) > flag and node.args[flag] is not mode:
                node.update_arg(flag, mode)
                changed = True
        if changed:
            self.recompile()
        super().train(mode)
        return self

    def _keep_names(self, like: nn.Module) -> TracedModel:
        """Buffers that are not in the given module's state are not in this one's."""
        listed = set(like.state_dict(keep_vars=True))
        for prefix, module in self.named_modules():
            module._non_persistent_buffers_set |= {
                b for b in module._buffers if (f"{prefix}.{b}" if prefix else b) not in listed
            }
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> TracedModel:
        holder = nn.Module()
        holder.__dict__.update(
            {
                k: copy.deepcopy(v, memo)
                for k, v in self.__dict__.items()
                if k in ("_parameters", "_buffers", "_modules", "training", "_non_persistent_buffers_set")
            }
        )
        copied = TracedModel(holder, copy.deepcopy(self.graph))
        copied.__dict__.update(holder.__dict__)  # a parametrized submodule as it is, not rebuilt from tensors
        copied.meta.update(self.meta)
        return copied._keep_names(self)


def _name(node: Node) -> str:
    return (
        str(node.target).removeprefix("aten.").split(".")[0].rstrip("_") if node.op == "call_function" else ""
    )


def traced_copy(model: nn.Module, plan: SlicePlan) -> TracedModel:
    """The network as a graph, with the plan's new constants; parameters are shared, still dense.

    Raises:
        CompressError: (exit 4) the rewrites do not fit what `torch.export` makes of the model here.
    """
    example = next(iter(model.parameters()), torch.zeros(()))
    dtype = example.dtype if example.is_floating_point() else None
    inputs = tuple(torch.zeros(shape, device=example.device, dtype=dtype) for shape in plan.input_shapes)
    program = export_program(model, inputs)
    nodes = {node.name: node for node in program.graph.nodes}
    picks = {name: args for name, (target, args) in plan.rewrites.items() if target == PICK}
    for name, (target, args) in plan.rewrites.items():
        node = nodes.get(name)
        if node is None or node.op != "call_function":
            raise CompressError(
                f"the plan rewrites the operator {name}, which this trace of the model does not have",
                hint="the plan was made with another version of torch; make it again",
                code="plan-mismatch",
                exit=Exit.BUILD,
            )
        if target in (PICK, SHARE, FOLD):
            continue
        new = _operator(target)
        given = {a.name for a in new._schema.arguments[: len(args)]}
        node.kwargs = {k: v for k, v in node.kwargs.items() if k not in given} if new is node.target else {}
        node.target, node.args = new, tuple(_value(a, nodes) for a in args)
    folded = _fold(program, [args[0] for target, args in plan.rewrites.values() if target == FOLD])
    module = program.module(check_guards=False) if _has_guard_switch(program) else program.module()
    lost = program.graph_module.meta.get(EVALUATES_ONLY)
    assert isinstance(module, GraphModule)
    _put_picks(module, picks, example.device)
    _put_shares(module, {name: args[0] for name, (target, args) in plan.rewrites.items() if target == SHARE})
    traced = _plain(module, model, folded)
    traced.meta[EVALUATES_ONLY] = lost
    return traced.train(model.training and not lost)


def _fold(program: ExportedProgram, names: list[str]) -> dict[str, nn.Parameter]:
    """Put the values that the program computes from these parameters in their place; return them."""
    computed = {w.name: w for w in find_computed_weights(program).values()} if names else {}
    out = {}
    for name in names:
        if name not in computed:
            raise CompressError(
                f"the plan folds what is computed from {name}, which this trace of the model does not have",
                hint="the plan was made with another version of torch; make it again",
                code="plan-mismatch",
                exit=Exit.BUILD,
            )
        parameter = program.state_dict[name]
        out[name] = nn.Parameter(compute_weight(program, computed[name]), parameter.requires_grad)
        replace_by_parameter(program.graph, computed[name])
    return out


def _put_picks(module: GraphModule, picks: dict[str, list[Any]], device: torch.device) -> None:
    """Replace operators by `index_select` with constant positions."""
    nodes = {node.name: node for node in module.graph.nodes}
    for name, (source, dim, index) in picks.items():
        node = nodes[name]
        parts = index if index and isinstance(index[0], list) else [index]
        with module.graph.inserting_before(node):
            made = [
                _index_select(module, f"{BUFFER}{name}_{i}", nodes[source["node"]], dim, part, device)
                for i, part in enumerate(parts)
            ]
        if parts is index:
            for user in list(node.users):
                user.replace_all_uses_with(made[user.args[1]])
                module.graph.erase_node(user)
        else:
            node.replace_all_uses_with(made[0])
        module.graph.erase_node(node)


def _put_shares(module: GraphModule, shares: dict[str, float]) -> None:
    """Multiply what an operator computes by a number."""
    nodes = {node.name: node for node in module.graph.nodes}
    for name, share in shares.items():
        with module.graph.inserting_after(nodes[name]):
            scaled = module.graph.call_function(torch.ops.aten.mul.Tensor, (nodes[name], share))
        nodes[name].replace_all_uses_with(scaled, delete_user_cb=lambda user, made=scaled: user is not made)


def _index_select(
    module: GraphModule, name: str, source: Node, dim: int, index: list[int], device: torch.device
) -> Node:
    module.register_buffer(name, torch.tensor(index, dtype=torch.int64, device=device), persistent=False)
    positions = module.graph.get_attr(name)
    return module.graph.call_function(torch.ops.aten.index_select.default, (source, dim, positions))


def _has_guard_switch(program: Any) -> bool:
    import inspect

    return "check_guards" in inspect.signature(program.module).parameters


def _restore_norms(module: GraphModule) -> None:
    """Batch norms in the form that only evaluates become those that can train."""
    for node in list(module.graph.nodes):
        if _name(node) != "_native_batch_norm_legit_no_training":
            continue
        x, weight, bias, mean, var, momentum, eps = node.args
        with module.graph.inserting_before(node):
            norm = module.graph.call_function(
                torch.ops.aten.batch_norm.default, (x, weight, bias, mean, var, False, momentum, eps, True)
            )
        for user in list(node.users):
            user.replace_all_uses_with(norm)
            module.graph.erase_node(user)
        module.graph.erase_node(node)


def _restore_copies(module: GraphModule) -> None:
    """A functional copy has no derivative: expand the source instead."""
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target is not torch.ops.aten.copy.default:
            continue
        target, source = node.args[:2]
        with module.graph.inserting_before(node):
            wide = module.graph.call_function(torch.ops.aten.expand_as.default, (source, target))
            node.replace_all_uses_with(
                module.graph.call_function(torch.ops.aten.type_as.default, (wide, target))
            )
        module.graph.erase_node(node)


def _plain(module: GraphModule, model: nn.Module, folded: dict[str, nn.Parameter]) -> TracedModel:
    """The exported module without its input checks, holding the model's own or folded parameters."""
    for node in list(module.graph.nodes):
        if not node.users and (node.op == "call_module" or _name(node) == "_assert_tensor_metadata"):
            module.graph.erase_node(node)
    _restore_norms(module)
    _restore_copies(module)
    traced = TracedModel(module, module.graph)
    own = {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }
    instead = {id(own[name]): new for name, new in folded.items()}
    for name, tensor in own.items():
        _place(traced, name, instead.get(id(tensor), tensor))
    traced.recompile()
    return traced._keep_names(model)


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
