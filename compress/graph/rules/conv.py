"""Convolutions: plain, depthwise, grouped, transposed, in one to three dimensions."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from compress.graph.labels import NONE, LabeledTensor, field_along
from compress.graph.operators import RULES
from compress.graph.rule_context import (
    ChannelMismatch,
    LayerTerm,
    RuleContext,
    numbers,
    positions,
    static_shape,
)


@RULES.register("convolution")
def conv(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Output channels are the weight's rows; input channels its second dimension."""
    x, weight, bias, groups = _operands(args, kwargs, groups_at=6)
    if len(x.shape) != len(weight.shape):
        return context.protect_all(node, [x, weight], "convolution without a batch dimension")
    return _convolve(context, node, x, weight, bias, groups, out_dim=0, in_dim=1)


@RULES.register("transposed_convolution")
def conv_transpose(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Input channels are the weight's rows; output channels its second dimension."""
    x, weight, bias, groups = _operands(args, kwargs, groups_at=6)
    if groups != 1:
        return _transposed_groups(context, node, x, weight, bias, groups)
    return _convolve(context, node, x, weight, bias, groups, out_dim=1, in_dim=0)


@RULES.register("general_convolution")
def convolution(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`aten.convolution`, plain or transposed, as decompositions produce it."""
    x, weight, bias = args[:3]
    if args[6]:
        return conv_transpose(context, node, (x, weight, bias, 1, 0, 0, args[8], 1), {})
    return conv(context, node, (x, weight, bias, 1, 0, 1, args[8]), {})


def _operands(
    args: tuple[Any, ...], kwargs: dict[str, Any], groups_at: int
) -> tuple[LabeledTensor, LabeledTensor, LabeledTensor | None, int]:
    bias = args[2] if len(args) > 2 else kwargs.get("bias")
    groups = args[groups_at] if len(args) > groups_at else kwargs.get("groups", 1)
    return args[0], args[1], bias, int(groups)


def _convolve(
    context: RuleContext,
    node: Node,
    x: LabeledTensor,
    weight: LabeledTensor,
    bias: LabeledTensor | None,
    groups: int,
    out_dim: int,
    in_dim: int,
) -> LabeledTensor:
    outputs = context.labels_along(_only(weight, out_dim), out_dim, node)
    context.require_zero(x, node)
    if not weight.zero_when_dropped:
        context.protect(weight.labels(), "its weights are computed in a way that does not keep zero")
    inputs = context.labels_along(x, 1, node)
    depthwise = groups > 1 and static_shape(_weight_node(node))[1] == 1
    if groups == 1:
        columns = context.labels_along(_only(weight, in_dim), in_dim, node)
        context.tie(inputs, columns, node, _columns(weight, in_dim))
        context.mark_inputs(columns)
    elif depthwise:
        repeat = static_shape(node)[1] // groups
        outputs = _follow(context, node, inputs.repeat_interleave(repeat), outputs, weight.source)
        if context.narrow and inputs.numel() != groups:
            context.rewrite(node, _with_groups(node, inputs.numel()))
    else:
        _tie_groups(context, node, inputs, outputs, weight, groups)
    kernel = math.prod(static_shape(_weight_node(node))[2:])
    spatial = positions(static_shape(node) if out_dim == 0 else x.shape)
    context.add_layer(
        LayerTerm(
            node.name,
            weight.source or node.name,
            kernel * spatial,
            numbers(inputs),
            numbers(outputs),
            0 if depthwise else groups,
        )
    )
    return _finish(context, node, outputs, bias)


def _follow(context: RuleContext, node: Node, inputs: Tensor, rows: Tensor, source: str | None) -> Tensor:
    """Tie the rows of a depthwise weight to its inputs and return them in the inputs' order."""
    context.tie(inputs, rows, node, (source, 0) if source else None)
    return torch.where(inputs == NONE, rows, inputs) if context.narrow else rows


def _tie_groups(
    context: RuleContext, node: Node, inputs: Tensor, outputs: Tensor, weight: LabeledTensor, groups: int
) -> None:
    if context.narrow and (inputs.numel() % groups or outputs.numel() % groups):
        raise ChannelMismatch(node, f"{inputs.numel()} channels do not divide into {groups} groups")
    if not weight.columns_of:
        context.protect(torch.cat([inputs, outputs]), "grouped convolution with computed weights")
        return
    context.equal_counts(list(inputs.view(groups, -1)), node)
    context.equal_counts(list(outputs.view(groups, -1)), node)
    context.tie_groups(weight.columns_of, inputs.view(groups, -1), node)


def _transposed_groups(
    context: RuleContext,
    node: Node,
    x: LabeledTensor,
    weight: LabeledTensor,
    bias: LabeledTensor | None,
    groups: int,
) -> Any:
    """Depthwise only: the weight is `[channels, 1, ...]` and each row makes its own channel."""
    if static_shape(_weight_node(node))[1] != 1 or x.shape[1] != weight.shape[0]:
        operands = [x, weight, *([bias] if bias else [])]
        return context.protect_all(node, operands, "grouped transposed convolution")
    context.require_zero(x, node)
    inputs = context.labels_along(x, 1, node)
    rows = context.labels_along(_only(weight, 0), 0, node)
    outputs = _follow(context, node, inputs, rows, weight.source)
    if context.narrow and inputs.numel() != groups:
        context.rewrite(node, _with_groups(node, inputs.numel(), at=6))
    kernel = math.prod(static_shape(_weight_node(node))[2:])
    factor = kernel * positions(x.shape)
    context.add_layer(
        LayerTerm(node.name, weight.source or node.name, factor, numbers(inputs), numbers(outputs), 0)
    )
    return _finish(context, node, outputs, bias)


def _finish(context: RuleContext, node: Node, outputs: Tensor, bias: LabeledTensor | None) -> LabeledTensor:
    if bias is not None and bias.fields:
        context.tie(
            outputs, context.labels_along(bias, 0, node), node, (bias.source, 0) if bias.source else None
        )
    context.mark_outputs(outputs)
    if bool((outputs == NONE).all()):
        return LabeledTensor(static_shape(node))
    fields = (field_along(outputs, len(static_shape(node)), 1),)
    return LabeledTensor(context.shape(node, fields), fields)


def _only(labeled: LabeledTensor, dim: int) -> LabeledTensor:
    """The labels along one dimension of a weight, without those of its other dimensions."""
    return replace(labeled, fields=tuple(f for f in labeled.fields if f.dims == (dim,)))


def _columns(weight: LabeledTensor, dim: int) -> tuple[str, int] | None:
    """The parameter dimension that may be reordered as the inputs arrive; row by row scaling allows it."""
    name = weight.columns_of if dim else weight.source
    return (name, dim) if name else None


def _weight_node(node: Node) -> Node:
    weight = node.args[1] if len(node.args) > 1 else node.kwargs["weight"]
    assert isinstance(weight, Node)
    return weight


def _with_groups(node: Node, groups: int, at: int = 6) -> tuple[Any, ...]:
    args = list(node.args)
    ndim = len(static_shape(node)) - 2
    transposed = "transpose" in str(node.target)
    defaults = [None, [1] * ndim, [0] * ndim, [0] * ndim if transposed else [1] * ndim, 1]
    names = ["bias", "stride", "padding", "output_padding" if transposed else "dilation", "groups"]
    if str(node.target).startswith("aten.convolution"):
        args[8] = groups
        return tuple(args)
    while len(args) <= at:
        args.append(node.kwargs.get(names[len(args) - 2], defaults[len(args) - 2]))
    args[at] = groups
    return tuple(args)
