"""Padding: over space channels go through; along channels zeros become positions of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from compress.graph.labels import LabeledTensor, field_along
from compress.graph.operators import RULES, operator_name
from compress.graph.rule_context import ChannelMismatch, RuleContext, static_shape


@RULES.register("pad")
def pad(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Constant zero keeps zero; padded channel positions are cut with what they are added to."""
    x, amounts = args[0], list(args[1])
    mode, value = _mode(node, args, kwargs)
    rank = len(x.shape)
    padded = {rank - 1 - i // 2 for i, n in enumerate(amounts) if n}
    inside = [d for f in x.fields for d in f.dims if d in padded]
    zero = mode != "constant" or value == 0
    if not inside:
        fields = x.fields
        return LabeledTensor(context.shape(node, fields), fields, x.zero_when_dropped and zero)
    dim = inside[0]
    left, right = amounts[2 * (rank - 1 - dim)], amounts[2 * (rank - 1 - dim) + 1]
    plain = len(x.fields) == 1 and x.fields[0].dims == (dim,)
    if not plain or mode != "constant" or not zero or left < 0 or right < 0:
        return context.protect_all(node, [x], f"{operator_name(node)} along its channels")
    build = _narrow_channels if context.narrow else _dense_channels
    labels = build(context, node, x.fields[0].labels.reshape(-1), dim, left, right)
    fields = (field_along(labels, rank, dim),)
    return LabeledTensor(context.shape(node, fields), fields, x.zero_when_dropped)


def _dense_channels(
    context: RuleContext, node: Node, inner: Tensor, dim: int, left: int, right: int
) -> Tensor:
    if context.free_pads:
        return context.registry.fresh(node.name, left + inner.numel() + right)
    fresh = context.registry.fresh(node.name, left + right)
    return torch.cat([fresh[:left], inner, fresh[left:]])


def _narrow_channels(
    context: RuleContext, node: Node, inner: Tensor, dim: int, left: int, right: int
) -> Tensor:
    """The kept positions after padding; what was inside must stay in one piece."""
    source = node.args[0]
    assert isinstance(source, Node)
    outer = context.dense_value(node).fields[0].labels.reshape(-1)
    before = context.dense_value(source).fields[0].labels.reshape(-1)
    keep = context.is_kept(outer)
    inside = context.is_kept(before).nonzero().reshape(-1)
    if inside.numel() != inner.numel():
        raise ChannelMismatch(node, "another number of channels than planned")
    context.tie(before[inside], inner, node)
    at = inside + left
    kept: Tensor = keep.nonzero().reshape(-1)
    where = torch.searchsorted(kept, at)
    if not bool(keep[at].all()) or not bool((where[1:] - where[:-1] == 1).all()):
        raise ChannelMismatch(node, "the channels inside the padding do not stay together")
    new = (int(where[0]), int(kept.numel() - where[-1] - 1))
    _rewrite(context, node, dim, new)
    if context.free_pads:
        chosen: Tensor = outer[kept]
        return chosen
    return torch.cat([outer[kept][: new[0]], inner, outer[kept][new[0] + inner.numel() :]])


def _rewrite(context: RuleContext, node: Node, dim: int, new: tuple[int, int]) -> None:
    amounts: list[Any] = list(node.args[1])  # type: ignore[arg-type]
    at = 2 * (len(static_shape(node)) - 1 - dim)
    if amounts[at : at + 2] != list(new):
        amounts[at : at + 2] = new
        context.rewrite(node, (node.args[0], amounts, *node.args[2:]))


def _mode(node: Node, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[str, float]:
    name = operator_name(node)
    if name == "pad":
        mode = args[2] if len(args) > 2 else kwargs.get("mode", "constant")
        value = args[3] if len(args) > 3 else kwargs.get("value")
        return mode, float(value or 0)
    if name == "constant_pad_nd":
        return "constant", float(args[2] if len(args) > 2 else kwargs.get("value", 0))
    return ("constant", 0.0) if name == "zero_pad2d" else (name, 0.0)
