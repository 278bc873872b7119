"""Convolutions: plain, depthwise, grouped, transposed, in one to three dimensions."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from compress.graph.context import Context, MacTerm, Mismatch, numbers, positions, static_shape
from compress.graph.labels import NONE, Lab, vector
from compress.graph.rules import rule


@rule("conv1d", "conv2d", "conv3d")
def conv(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Output channels are the weight's rows; input channels its second dimension."""
    x, weight, bias, groups = _operands(args, kwargs, groups_at=6)
    if len(x.shape) != len(weight.shape):
        return ctx.give_up(node, [x, weight], "convolution without a batch dimension")
    return _convolve(ctx, node, x, weight, bias, groups, out_dim=0, in_dim=1)


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def conv_transpose(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """As a convolution with the weight's two dimensions exchanged."""
    x, weight, bias, groups = _operands(args, kwargs, groups_at=6)
    if groups != 1:
        return _transposed_groups(ctx, node, x, weight, bias, groups)
    return _convolve(ctx, node, x, weight, bias, groups, out_dim=1, in_dim=0)


@rule("convolution")
def convolution(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The general form that decompositions leave."""
    x, weight, bias = args[:3]
    if args[6]:
        return conv_transpose(ctx, node, (x, weight, bias, 1, 0, 0, args[8], 1), {})
    return conv(ctx, node, (x, weight, bias, 1, 0, 1, args[8]), {})


def _operands(
    args: tuple[Any, ...], kwargs: dict[str, Any], groups_at: int
) -> tuple[Lab, Lab, Lab | None, int]:
    bias = args[2] if len(args) > 2 else kwargs.get("bias")
    groups = args[groups_at] if len(args) > groups_at else kwargs.get("groups", 1)
    return args[0], args[1], bias, int(groups)


def _convolve(
    ctx: Context, node: Node, x: Lab, weight: Lab, bias: Lab | None, groups: int, out_dim: int, in_dim: int
) -> Lab:
    outputs = ctx.vector(_only(weight, out_dim), out_dim, node)
    ctx.need_clean(x, node)
    if not weight.clean:
        ctx.protect(weight.labels(), "its weights are computed in a way that does not keep zero")
    inputs = ctx.vector(x, 1, node)
    depthwise = groups > 1 and static_shape(_weight_node(node))[1] == 1
    if groups == 1:
        columns = ctx.vector(_only(weight, in_dim), in_dim, node)
        ctx.tie(inputs, columns, node, _columns(weight, in_dim))
        ctx.consume(columns)
    elif depthwise:
        repeat = static_shape(node)[1] // groups
        outputs = _follow(ctx, node, inputs.repeat_interleave(repeat), outputs, weight.source)
        if ctx.narrow and inputs.numel() != groups:
            ctx.rewrite(node, _with_groups(node, inputs.numel()))
    else:
        _tie_groups(ctx, node, inputs, outputs, weight, groups)
    kernel = math.prod(static_shape(_weight_node(node))[2:])
    spatial = positions(static_shape(node) if out_dim == 0 else x.shape)
    ctx.macs(
        MacTerm(
            node.name,
            weight.source or node.name,
            kernel * spatial,
            numbers(inputs),
            numbers(outputs),
            0 if depthwise else groups,
        )
    )
    return _finish(ctx, node, outputs, bias)


def _follow(ctx: Context, node: Node, wanted: Tensor, rows: Tensor, source: str | None) -> Tensor:
    """Tie the rows of a depthwise weight to its inputs and return them in the inputs' order."""
    ctx.tie(wanted, rows, node, (source, 0) if source else None)
    return torch.where(wanted == NONE, rows, wanted) if ctx.narrow else rows


def _tie_groups(ctx: Context, node: Node, inputs: Tensor, outputs: Tensor, weight: Lab, groups: int) -> None:
    if ctx.narrow and (inputs.numel() % groups or outputs.numel() % groups):
        raise Mismatch(node, f"{inputs.numel()} channels do not divide into {groups} groups")
    if not weight.columns_of:
        ctx.protect(torch.cat([inputs, outputs]), "grouped convolution with computed weights")
        return
    ctx.equal_counts(list(inputs.view(groups, -1)), node)
    ctx.equal_counts(list(outputs.view(groups, -1)), node)
    ctx.grouped(weight.columns_of, inputs.view(groups, -1), node)


def _transposed_groups(ctx: Context, node: Node, x: Lab, weight: Lab, bias: Lab | None, groups: int) -> Any:
    """Depthwise only: the weight is `[channels, 1, ...]` and each row makes its own channel."""
    if static_shape(_weight_node(node))[1] != 1 or x.shape[1] != weight.shape[0]:
        labs = [x, weight, *([bias] if bias else [])]
        return ctx.give_up(node, labs, "grouped transposed convolution")
    ctx.need_clean(x, node)
    inputs = ctx.vector(x, 1, node)
    rows = ctx.vector(_only(weight, 0), 0, node)
    outputs = _follow(ctx, node, inputs, rows, weight.source)
    if ctx.narrow and inputs.numel() != groups:
        ctx.rewrite(node, _with_groups(node, inputs.numel(), at=6))
    kernel = math.prod(static_shape(_weight_node(node))[2:])
    factor = kernel * positions(x.shape)
    ctx.macs(MacTerm(node.name, weight.source or node.name, factor, numbers(inputs), numbers(outputs), 0))
    return _finish(ctx, node, outputs, bias)


def _finish(ctx: Context, node: Node, outputs: Tensor, bias: Lab | None) -> Lab:
    if bias is not None and bias.fields:
        ctx.tie(outputs, ctx.vector(bias, 0, node), node, (bias.source, 0) if bias.source else None)
    ctx.produce(outputs)
    if bool((outputs == NONE).all()):
        return Lab(static_shape(node))
    fields = (vector(outputs, len(static_shape(node)), 1),)
    return Lab(ctx.shape(node, fields), fields)


def _only(lab: Lab, dim: int) -> Lab:
    """The labels along one dimension of a weight, without those of its other dimensions."""
    return replace(lab, fields=tuple(f for f in lab.fields if f.dims == (dim,)))


def _columns(weight: Lab, dim: int) -> tuple[str, int] | None:
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
