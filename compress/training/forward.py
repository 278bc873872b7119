"""What a step computes before its backward pass: outputs, then the method's loss; eager, or compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from accelerate.utils import convert_to_fp32
from torch import Tensor, nn

from compress.training.evaluation import check_outputs, logits_of
from compress.training.method import TrainableMethod
from compress.training.probe import Probe

Found = tuple[Tensor, Tensor]
"""The scalar loss and the scores `[B, classes]`, both with their graph."""

Mode = Literal["eager", "compiled", "cuda-graphs"]

EAGER: Mode = "eager"

BACKEND: str | Callable[..., Any] = "inductor"
"""What `torch.compile` compiles with."""


class Forward:
    """Forward pass and loss of one training.

    Args:
        wrapped: what is called: the model, or its distributed wrapper.
        model: the bare model. method: gives the loss. criterion: loss of scores and labels.
        num_classes: width of the output. backend: of `torch.compile`; None: `BACKEND`.
    """

    def __init__(
        self,
        wrapped: nn.Module,
        model: nn.Module,
        method: TrainableMethod,
        criterion: nn.Module,
        num_classes: int,
        backend: str | Callable[..., Any] | None = None,
    ) -> None:
        self._wrapped, self._model = wrapped, model
        self._method, self._criterion = method, criterion
        self._classes = num_classes
        self._backend = backend if backend is not None else BACKEND
        self._compiled: dict[Mode, Callable[[Tensor, Tensor], Found]] = {}
        self.mode: Mode = EAGER

    def use(self, mode: Mode) -> None:
        """From now on run in this mode; the first call of a compiled one, and of every kind, takes its time.

        A compiled function has the loss in it, and fixed shapes.
        """
        self.mode = mode
        if mode != EAGER and mode not in self._compiled:
            options: dict[str, Any] = {"mode": "reduce-overhead"} if mode == "cuda-graphs" else {}
            self._compiled[mode] = torch.compile(self._whole, backend=self._backend, dynamic=False, **options)

    def __call__(self, x: Tensor, y: Tensor, probe: Probe) -> Found:
        """Return loss and scores for images `[B, C, H, W]` and labels `[B]`.

        Raises:
            CompressError: ``model-output``.
        """
        if self.mode != EAGER:
            probe.part("forward and loss")
            if self.mode == "cuda-graphs":
                torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            return self._compiled[self.mode](x, y)
        probe.part("forward")
        outputs, logits = self._outputs(x)
        probe.part("loss of the method")
        return self._loss(x, outputs, y), logits

    def _whole(self, x: Tensor, y: Tensor) -> Found:
        outputs, logits = self._outputs(x)
        return self._loss(x, outputs, y), logits

    def _outputs(self, x: Tensor) -> tuple[Any, Tensor]:
        outputs = convert_to_fp32(self._wrapped(x))
        logits = logits_of(outputs)
        check_outputs(logits, self._classes)
        return outputs, logits

    def _loss(self, x: Tensor, outputs: Any, y: Tensor) -> Tensor:
        return self._method.loss(self._model, x, outputs, y, self._criterion)
