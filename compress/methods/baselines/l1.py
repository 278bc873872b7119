"""Baseline: keep the filters with the largest L1 norms.

Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, https://arxiv.org/abs/1608.08710.
"""

from __future__ import annotations

from typing import ClassVar

from compress.methods.base import METHODS, MethodConfig
from compress.methods.baselines.base import RankedConfig, RankedSlicing


class L1(RankedConfig):
    """Settings of the L1 baseline."""


@METHODS.register("l1")
class L1Method(RankedSlicing):
    """Keep the filters of a trained network with the largest L1 norms, then fine-tune."""

    config_type: ClassVar[type[MethodConfig]] = L1
    criterion: ClassVar[str] = "l1"
