"""The methods every user would try first: rank a trained network's filters once, cut, train on.

Yardsticks: what a learned choice has to beat at the same cost and the same number of epochs.
"""

from __future__ import annotations

import copy
from typing import ClassVar

from pydantic import Field
from torch import nn

from compress.graph import ChannelGraph, Criterion, SlicePlan
from compress.methods.base import Method, MethodConfig, Prepared, register
from compress.slicing import slice_model


class RankedConfig(MethodConfig):
    """Settings of the yardsticks.

    Attributes:
        dense_share: share of the epochs in which the dense network is trained first, if no weights are given.
    """

    dense_share: float = Field(0.5, gt=0, lt=1)


class _Ranked(Method):
    """Cut a trained network by its plan's criterion, then train the narrow one."""

    config_type = RankedConfig
    free_pads: ClassVar[bool] = False
    starts_dense: ClassVar[bool] = True

    def prepare(self, model: nn.Module, graph: ChannelGraph, plan: SlicePlan | None) -> Prepared:
        """Cut the trained network."""
        assert plan is not None
        return Prepared(slice_model(model, plan), plan)

    def finish(self, model: nn.Module) -> nn.Module:
        """A copy."""
        return copy.deepcopy(model)


@register("l1")
class L1(_Ranked):
    """Keep the filters with the largest L1 norms (Li et al., ICLR 2017, https://arxiv.org/abs/1608.08710)."""

    criterion: ClassVar[Criterion] = "l1"


@register("random")
class Random(_Ranked):
    """Keep random filters of the trained network."""

    criterion: ClassVar[Criterion] = "random"
