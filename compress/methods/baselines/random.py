"""Baseline: keep random filters of a trained network."""

from __future__ import annotations

from typing import ClassVar

from compress.methods.base import METHODS, MethodConfig
from compress.methods.baselines.base import RankedConfig, RankedSlicing


class Random(RankedConfig):
    """Settings of the random baseline; the seed is that of the training."""


@METHODS.register("random")
class RandomMethod(RankedSlicing):
    """Keep random filters of a trained network, then fine-tune."""

    config_type: ClassVar[type[MethodConfig]] = Random
    criterion: ClassVar[str] = "random"
