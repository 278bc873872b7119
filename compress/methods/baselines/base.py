"""What the baselines share: a network that is trained without any hook of its own."""

from __future__ import annotations

import copy
from typing import ClassVar

from pydantic import Field
from torch import nn

from compress.methods.base import Method, MethodConfig, Setup
from compress.slicing import slice_model


class OrdinaryTraining(Method):
    """Train an ordinary network with the plain loss; finishing it is copying it."""

    def finish(self, model: nn.Module) -> nn.Module:
        """Return a copy."""
        return copy.deepcopy(model)


class SliceThenTrain(OrdinaryTraining):
    """Slice the network by its plan, then train the compact one."""

    def __init__(self, config: MethodConfig, setup: Setup) -> None:
        super().__init__(config, setup, slice_model(setup.model, setup.required_plan))


class RankedConfig(MethodConfig):
    """Settings of the baselines that rank the filters of a trained network.

    Attributes:
        dense_share: share of the epochs in which the dense network is trained first, if no weights are given.
    """

    dense_share: float = Field(0.5, gt=0, lt=1)


class RankedSlicing(SliceThenTrain):
    """Rank the filters of a trained network by a criterion, slice it once, then fine-tune.

    A learned choice of filters has to do better than this at the same cost and number of epochs.
    """

    config_type: ClassVar[type[MethodConfig]] = RankedConfig
    free_pads: ClassVar[bool] = False
    starts_from_dense: ClassVar[bool] = True
