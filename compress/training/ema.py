"""A moving average of the weights.

Not `torch.optim.swa_utils.AveragedModel`: its `update_parameters` waits for the device at every step (it
reads its counter), copies the model at the first update, and treats all buffers alike, while here running
statistics are averaged and counters and codes are copied.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

_STATISTICS = ("running_mean", "running_var")


class Ema:
    """An averaged copy of a model.

    Parameters and the norms' running statistics are averaged; every other buffer (a counter, a code that a
    method recomputes) is copied, because its average has no meaning. The decay grows to its value as
    `(1 + n) / (10 + n)` over n updates, so that the average of a short training does not depend on the first
    weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the weights of `model`."""
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        mean: list[Tensor] = list(self.module.parameters())
        torch._foreach_lerp_(mean, [parameter.detach() for parameter in model.parameters()], weight)
        ours, theirs = dict(self.module.named_buffers()), dict(model.named_buffers())
        averaged = [name for name in ours if name.endswith(_STATISTICS)]
        copied = [name for name in ours if not name.endswith(_STATISTICS)]
        if averaged:
            torch._foreach_lerp_([ours[n] for n in averaged], [theirs[n] for n in averaged], weight)
        if copied:
            torch._foreach_copy_([ours[n] for n in copied], [theirs[n] for n in copied])

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged model's state and the number of updates."""
        return {"model": self.module.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.module.load_state_dict(state["model"])
        self.updates = int(state["updates"])
