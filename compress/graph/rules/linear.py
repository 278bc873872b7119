"""Linear layers and matrix products."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.fx import Node

from compress.graph.context import Context, MacTerm, numbers, short, static_shape
from compress.graph.labels import NONE, Field, Lab, vector
from compress.graph.rules import rule


@rule("linear")
def linear(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Rows of the weight are outputs, columns inputs, on the last dimension of the input."""
    x, weight = args[0], args[1]
    bias = args[2] if len(args) > 2 else kwargs.get("bias")
    ctx.need_clean(x, node)
    inputs = ctx.vector(x, -1, node)
    outputs = ctx.vector(_along(weight, 0), 0, node)
    columns = ctx.vector(_along(weight, 1), 1, node)
    ctx.tie(inputs, columns, node, (weight.source, 1) if weight.source else None)
    ctx.consume(columns)
    if not weight.clean:
        ctx.protect(weight.labels(), "its weights are computed in a way that does not keep zero")
    if bias is not None and bias.fields:
        ctx.tie(outputs, ctx.vector(bias, 0, node), node, (bias.source, 0) if bias.source else None)
    ctx.produce(outputs)
    shape = static_shape(node)
    factor = math.prod(shape[1:-1])
    ctx.macs(MacTerm(node.name, weight.source or node.name, factor, numbers(inputs), numbers(outputs), 1))
    if bool((outputs == NONE).all()):
        return Lab(shape)
    fields = (vector(outputs, len(shape), len(shape) - 1),)
    return Lab(ctx.shape(node, fields), fields)


@rule("addmm")
def addmm(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`bias + x @ weight`, as decompositions write a linear layer."""
    bias, x, weight = args[:3]
    product = matmul(ctx, node, (x, weight), {})
    if isinstance(bias, Lab) and bias.fields and product.fields:
        for f in product.fields:
            if f.dims == (1,):
                ctx.tie(
                    f.labels.reshape(-1),
                    ctx.vector(bias, len(bias.shape) - 1, node),
                    node,
                    (bias.source, 0) if bias.source else None,
                )
    elif isinstance(bias, Lab):
        return ctx.give_up(node, [bias, product], "addmm adds to it what is never cut")
    return product


@rule("matmul", "mm", "bmm")
def matmul(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The contracted dimension is a layer's input; every other labelled dimension goes through."""
    a, b = args[:2]
    if len(a.shape) < 2 or len(b.shape) < 2:
        return ctx.give_up(node, [a, b], f"{short(node)} with a vector")
    left, right = _along(a, len(a.shape) - 1), _along(b, len(b.shape) - 2)
    inner_a = ctx.vector(left, -1, node)
    inner_b = ctx.vector(right, len(b.shape) - 2, node)
    if not (a.clean or b.clean):
        ctx.protect(torch.cat([a.labels(), b.labels()]), f"{short(node)} of two values that are not zero")
    ctx.tie(inner_a, inner_b, node, (b.source, 0) if b.source else None)
    rank = len(static_shape(node))
    fields = [*_outer(ctx, node, a, len(a.shape) - 1, rank), *_outer(ctx, node, b, len(b.shape) - 2, rank)]
    if b.source and fields and fields[-1].dims == (rank - 1,):
        ctx.consume(inner_b)
        ctx.produce(fields[-1].labels)
    return Lab(ctx.shape(node, fields), tuple(fields), a.clean and b.clean)


def _outer(ctx: Context, node: Node, lab: Lab, contracted: int, rank: int) -> list[Field]:
    """The fields of an operand that do not touch the contracted dimension, at the result's rank."""
    out = []
    shift = rank - len(lab.shape)
    for f in lab.fields:
        if contracted in f.dims:
            if len(f.dims) > 1:
                ctx.protect(f.labels, f"{short(node)} contracts part of its channels")
            continue
        labels = f.labels.reshape([1] * shift + list(f.labels.shape)) if shift >= 0 else f.labels
        out.append(Field(labels, tuple(d + shift for d in f.dims)))
    return out


def _along(lab: Lab, dim: int) -> Lab:
    return Lab(lab.shape, tuple(f for f in lab.fields if dim in f.dims), lab.clean, lab.source)


@rule("scaled_dot_product_attention")
def attention(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Heads and their width are kept: the scale depends on the width."""
    labs = [a for a in args if isinstance(a, Lab)]
    return ctx.give_up(node, labs, "attention keeps its heads")
