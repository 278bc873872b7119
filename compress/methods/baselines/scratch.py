"""Baseline: train the compact network from its initial weights, without a method."""

from __future__ import annotations

from typing import ClassVar

from compress.methods.base import METHODS, MethodConfig
from compress.methods.baselines.base import SliceThenTrain


class Scratch(MethodConfig):
    """Settings of the scratch baseline."""


@METHODS.register("scratch")
class ScratchMethod(SliceThenTrain):
    """Slice the untrained network, then train it: what a method has to beat at the same MACs."""

    config_type: ClassVar[type[MethodConfig]] = Scratch
