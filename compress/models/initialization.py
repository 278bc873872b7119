"""Initial weights of the built-in networks (He et al. 2015, https://arxiv.org/abs/1502.01852)."""

from __future__ import annotations

from torch import nn


def initialize_weights(model: nn.Module) -> None:
    """Set convolutions to Kaiming-normal (fan out), norms to 1 and 0, linear layers to N(0, 0.01)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
