"""Linear layers and matrix products."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.fx import Node

from compress.graph.labels import NONE, LabeledTensor, LabelField, field_along
from compress.graph.operators import RULES, operator_name
from compress.graph.rule_context import LayerTerm, RuleContext, numbers, static_shape


@RULES.register("linear")
def linear(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Rows of the weight are outputs, columns inputs, on the last dimension of the input."""
    x, weight = args[0], args[1]
    bias = args[2] if len(args) > 2 else kwargs.get("bias")
    context.require_zero(x, node)
    inputs = context.labels_along(x, -1, node)
    outputs = context.labels_along(_along(weight, 0), 0, node)
    columns = context.labels_along(_along(weight, 1), 1, node)
    context.tie(inputs, columns, node, (weight.source, 1) if weight.source else None)
    context.mark_inputs(columns)
    if not weight.zero_when_dropped:
        context.protect(weight.labels(), "its weights are computed in a way that does not keep zero")
    if bias is not None and bias.fields:
        context.tie(
            outputs, context.labels_along(bias, 0, node), node, (bias.source, 0) if bias.source else None
        )
    context.mark_outputs(outputs)
    shape = static_shape(node)
    factor = math.prod(shape[1:-1])
    context.add_layer(
        LayerTerm(node.name, weight.source or node.name, factor, numbers(inputs), numbers(outputs), 1)
    )
    if bool((outputs == NONE).all()):
        return LabeledTensor(shape)
    fields = (field_along(outputs, len(shape), len(shape) - 1),)
    return LabeledTensor(context.shape(node, fields), fields)


@RULES.register("addmm")
def addmm(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`bias + x @ weight`, as decompositions write a linear layer."""
    bias, x, weight = args[:3]
    product = matmul(context, node, (x, weight), {})
    if isinstance(bias, LabeledTensor) and bias.fields and product.fields:
        for f in product.fields:
            if f.dims == (1,):
                context.tie(
                    f.labels.reshape(-1),
                    context.labels_along(bias, len(bias.shape) - 1, node),
                    node,
                    (bias.source, 0) if bias.source else None,
                )
    elif isinstance(bias, LabeledTensor):
        return context.protect_all(node, [bias, product], "addmm adds to it what is never cut")
    return product


@RULES.register("matmul")
def matmul(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The contracted dimension is a layer's input; every other labeled dimension goes through."""
    a, b = args[:2]
    if len(a.shape) < 2 or len(b.shape) < 2:
        return context.protect_all(node, [a, b], f"{operator_name(node)} with a vector")
    left, right = _along(a, len(a.shape) - 1), _along(b, len(b.shape) - 2)
    inner_a = context.labels_along(left, -1, node)
    inner_b = context.labels_along(right, len(b.shape) - 2, node)
    if not (a.zero_when_dropped or b.zero_when_dropped):
        context.protect(
            torch.cat([a.labels(), b.labels()]), f"{operator_name(node)} of two values that are not zero"
        )
    context.tie(inner_a, inner_b, node, (b.source, 0) if b.source else None)
    rank = len(static_shape(node))
    fields = [
        *_outer(context, node, a, len(a.shape) - 1, rank),
        *_outer(context, node, b, len(b.shape) - 2, rank),
    ]
    if b.source and fields and fields[-1].dims == (rank - 1,):
        context.mark_inputs(inner_b)
        context.mark_outputs(fields[-1].labels)
    return LabeledTensor(
        context.shape(node, fields), tuple(fields), a.zero_when_dropped and b.zero_when_dropped
    )


def _outer(
    context: RuleContext, node: Node, labeled: LabeledTensor, contracted: int, rank: int
) -> list[LabelField]:
    """The fields of an operand that do not touch the contracted dimension, at the result's rank."""
    out = []
    shift = rank - len(labeled.shape)
    for f in labeled.fields:
        if contracted in f.dims:
            if len(f.dims) > 1:
                context.protect(f.labels, f"{operator_name(node)} contracts part of its channels")
            continue
        labels = f.labels.reshape([1] * shift + list(f.labels.shape)) if shift >= 0 else f.labels
        out.append(LabelField(labels, tuple(d + shift for d in f.dims)))
    return out


def _along(labeled: LabeledTensor, dim: int) -> LabeledTensor:
    return LabeledTensor(
        labeled.shape,
        tuple(f for f in labeled.fields if dim in f.dims),
        labeled.zero_when_dropped,
        labeled.source,
    )


@RULES.register("attention")
def attention(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Heads and their width are kept: the scale depends on the width."""
    operands = [a for a in args if isinstance(a, LabeledTensor)]
    return context.protect_all(node, operands, "attention keeps its heads")
