"""Taps: features of a network's inside, read by hooks while it runs, and given up when they are taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from compress.graph.stages import StageEnd


class Taps:
    """Reads the ends of stages of one network.

    Args:
        model: the network; hooks are added to it. ends: where to read.
        training_only: read only while the network is in training mode.
    """

    def __init__(self, model: nn.Module, ends: Sequence[StageEnd], training_only: bool) -> None:
        self.on = True
        self._only = training_only
        self._wanted = {(end.module, end.call): i for i, end in enumerate(ends)}
        self._count: dict[str, int] = {}
        self._features: dict[int, Tensor] = {}
        model.register_forward_pre_hook(self._begin)
        for path in dict.fromkeys(end.module for end in ends):
            model.get_submodule(path).register_forward_hook(_Tap(self, path))

    def _begin(self, module: nn.Module, args: Any) -> None:
        self._count, self._features = {}, {}

    def read(self, path: str, module: nn.Module, output: Any) -> None:
        """Keep what a module gives if it is wanted."""
        call = self._count.get(path, 0)
        self._count[path] = call + 1
        at = self._wanted.get((path, call))
        if at is not None and self.on and (module.training or not self._only):
            self._features[at] = output

    def take(self) -> list[Tensor]:
        """The features of the last forward pass, in order; they are kept no longer."""
        features, self._features = self._features, {}
        return [features[i] for i in sorted(features)]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_features": {}}


class _Tap:
    """One hook; not a closure, so that a copy of the network reads into a copy of the taps."""

    def __init__(self, taps: Taps, path: str) -> None:
        self.taps, self.path = taps, path

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        self.taps.read(self.path, module, output)
