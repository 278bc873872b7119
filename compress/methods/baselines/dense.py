"""Baseline: train the dense network as it is."""

from __future__ import annotations

from typing import ClassVar

from compress.methods.base import METHODS, MethodConfig
from compress.methods.baselines.base import OrdinaryTraining


class Dense(MethodConfig):
    """Settings of the dense baseline."""


@METHODS.register("dense")
class DenseMethod(OrdinaryTraining):
    """Train the dense network; nothing is cut."""

    config_type: ClassVar[type[MethodConfig]] = Dense
    needs_target: ClassVar[bool] = False
