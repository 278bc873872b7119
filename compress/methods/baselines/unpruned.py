"""Training without a method: the dense network, and the narrow one from scratch. Both are yardsticks."""

from __future__ import annotations

import copy

from torch import nn

from compress.graph import ChannelGraph, SlicePlan
from compress.methods.base import Method, Prepared, register
from compress.slicing import slice_model


@register("dense")
class Dense(Method):
    """Train the dense network as it is."""

    narrows = False

    def prepare(self, model: nn.Module, graph: ChannelGraph, plan: SlicePlan | None) -> Prepared:
        """Nothing is cut."""
        return Prepared(model, None)

    def finish(self, model: nn.Module) -> nn.Module:
        """A copy."""
        return copy.deepcopy(model)


@register("scratch")
class Scratch(Method):
    """Train the narrow network as it is: what any method has to beat at the same MACs."""

    def prepare(self, model: nn.Module, graph: ChannelGraph, plan: SlicePlan | None) -> Prepared:
        """Cut first, then train."""
        assert plan is not None
        return Prepared(slice_model(model, plan), plan)

    def finish(self, model: nn.Module) -> nn.Module:
        """A copy."""
        return copy.deepcopy(model)
