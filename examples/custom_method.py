"""Register a method of your own and compare it with a baseline at the same MACs.

    python examples/custom_method.py --epochs 6

The method keeps the filters with the largest L2 norms and trains the compact network with mixup.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

import compress
from compress.methods import METHODS, Method, MethodConfig, Setup
from compress.slicing import slice_model


class Mixup(MethodConfig):
    """Settings of the method.

    Attributes:
        strength: largest share of the second image in a mixture.
        dense_share: share of the epochs for training the dense network, if no weights are given.
    """

    strength: float = Field(0.2, ge=0, le=0.5)
    dense_share: float = Field(0.5, gt=0, lt=1)


@METHODS.register("mixup")
class MixupMethod(Method):
    """Slice by the L2 norm, then train on mixtures of two images."""

    config_type = Mixup
    config: Mixup
    criterion: ClassVar[Any] = "l2"
    free_pads: ClassVar[bool] = False
    starts_from_dense: ClassVar[bool] = True

    def __init__(self, config: Mixup, setup: Setup) -> None:
        super().__init__(config, setup, slice_model(setup.model, setup.required_plan))

    def loss(
        self, model: nn.Module, inputs: Tensor, outputs: Any, targets: Tensor, criterion: nn.Module
    ) -> Tensor:
        """Return the loss of a mixture of every image with the next one of the batch."""
        share = self.config.strength
        mixed = model((1 - share) * inputs + share * inputs.roll(1, 0))
        loss: Tensor = (1 - share) * criterion(mixed, targets) + share * criterion(mixed, targets.roll(1, 0))
        return 0.5 * (loss + criterion(outputs, targets))

    def finish(self, model: nn.Module) -> nn.Module:
        """Return a copy of the trained compact network."""
        return copy.deepcopy(model)


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train the method and the baseline; return their accuracies."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("runs/custom_method"))
    options = parser.parse_args(arguments)

    accuracies = {}
    for method in (Mixup(strength=0.1), compress.L1()):
        name = type(method).__name__.lower()
        torch.manual_seed(0)
        result = compress.train(
            "vgg_small",
            "digits",
            method,
            target="macs=0.3",
            epochs=options.epochs,
            batch_size=32,
            lr=0.05,
            out=options.out / name,
        )
        accuracies[name] = result.top1
        print(f"{name}: {result.top1:.2%} with {result.compact.macs:,} MACs")
    return accuracies


if __name__ == "__main__":
    main()
