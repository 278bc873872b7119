"""The rule table: what each operator of ATen does to channels.

One small file a family. A rule is a function `rule(ctx, node, args, kwargs)` that gets the node's arguments
as `Lab` (tensors) or plain values and returns the node's value; it speaks through `ctx` (see `context.py`)
and serves both passes. Operators that only move data need no rule of their own: they are listed in
`movement.py` and run on the labels. What is in no file protects every channel that touches it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.fx import Node

from compress.graph.context import Context, short

Rule = Callable[[Context, Node, tuple[Any, ...], dict[str, Any]], Any]

RULES: dict[str, Rule] = {}


def rule(*operators: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of operators, by name: `"conv2d"`; not ATen's: `"mylib.squash"`."""

    def register(function: Rule) -> Rule:
        for name in operators:
            if name in RULES:
                raise ValueError(f"operator {name} already has a rule")
            RULES[name] = function
        return function

    return register


def find(node: Node) -> Rule | None:
    """The rule of a node's operator, or None."""
    name = short(node)
    return RULES.get(name) or (RULES.get(name[:-1]) if name.endswith("_") else None)


from compress.graph.rules import conv, elementwise, indexing, linear, movement, norm, pad, parts, pool, reduce  # noqa: E402, F401
