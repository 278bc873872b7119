"""Forward hooks that collect intermediate features of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from compress.graph.stages import StageEnd


class Taps:
    """Features at the ends of the stages of one network.

    Args:
        model: the network; hooks are added to it.
        ends: where features are collected.
        training_only: collect only while the network is in training mode.

    Attributes:
        on: whether features are collected.
    """

    def __init__(self, model: nn.Module, ends: Sequence[StageEnd], training_only: bool) -> None:
        self.on = True
        self._training_only = training_only
        self._stage_of = {(end.module, end.call): i for i, end in enumerate(ends)}
        self._count: dict[str, int] = {}
        self._features: dict[int, Tensor] = {}
        model.register_forward_pre_hook(self._begin)
        for path in dict.fromkeys(end.module for end in ends):
            model.get_submodule(path).register_forward_hook(_Tap(self, path))

    def _begin(self, module: nn.Module, args: Any) -> None:
        self._count, self._features = {}, {}

    def read(self, path: str, module: nn.Module, output: Any) -> None:
        """Keep the output of a module call that ends a stage."""
        call = self._count.get(path, 0)
        self._count[path] = call + 1
        at = self._stage_of.get((path, call))
        if at is not None and self.on and (module.training or not self._training_only):
            self._features[at] = output

    def take(self) -> list[Tensor]:
        """Return the features of the last forward pass, in order, and drop them."""
        features, self._features = self._features, {}
        return [features[i] for i in sorted(features)]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_features": {}}


class _Tap:
    """One hook; not a closure, so that a copy of the network writes into a copy of the taps."""

    def __init__(self, taps: Taps, path: str) -> None:
        self.taps, self.path = taps, path

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        self.taps.read(self.path, module, output)
