"""One optimizer step (`Stepper.step`), its forward pass and loss, and the steps of an epoch.

No step waits for the device that computes; only the end of an epoch does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from compress.training.config import TrainConfig
from compress.training.device import average_gradients, sum_over_processes
from compress.training.evaluation import check_outputs, logits_of, to_device
from compress.training.loss_monitor import LossMonitor, non_finite
from compress.training.method import TrainableMethod
from compress.training.probe import REST, NoProbe, Probe
from compress.training.progress import Progress
from compress.training.schedule import learning_rate, set_learning_rate
from compress.training.state import TrainState

if TYPE_CHECKING:
    from accelerate import Accelerator

LossAndScores = tuple[Tensor, Tensor]
"""The scalar loss and the class scores `[B, classes]`, both with their graph."""

Mode = Literal["eager", "compiled", "cuda-graphs"]

EAGER: Mode = "eager"

BACKEND: str | Callable[..., Any] = "inductor"
"""Back end of `torch.compile`."""


class Forward:
    """Forward pass and loss of one training, eager or compiled.

    Args:
        wrapped: the model, or its distributed wrapper, which is called.
        model: the bare model.
        method: computes the loss.
        criterion: loss of scores and labels.
        num_classes: width of the output.
        backend: back end of `torch.compile`; None: `BACKEND`.
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
        from accelerate.utils import convert_to_fp32

        self._to_fp32: Callable[[Any], Any] = convert_to_fp32
        self._wrapped, self._model = wrapped, model
        self._method, self._criterion = method, criterion
        self._classes = num_classes
        self._backend = backend if backend is not None else BACKEND
        self._compiled: dict[Mode, Callable[[Tensor, Tensor], LossAndScores]] = {}
        self.mode: Mode = EAGER

    def use(self, mode: Mode) -> None:
        """Run in this mode from now on; the first call of a compiled mode compiles.

        A compiled function includes the loss and has fixed shapes.
        """
        self.mode = mode
        if mode != EAGER and mode not in self._compiled:
            options: dict[str, Any] = {"mode": "reduce-overhead"} if mode == "cuda-graphs" else {}
            self._compiled[mode] = torch.compile(
                self._loss_and_scores, backend=self._backend, dynamic=False, **options
            )

    def __call__(self, x: Tensor, y: Tensor, probe: Probe) -> LossAndScores:
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

    def _loss_and_scores(self, x: Tensor, y: Tensor) -> LossAndScores:
        outputs, logits = self._outputs(x)
        return self._loss(x, outputs, y), logits

    def _outputs(self, x: Tensor) -> tuple[Any, Tensor]:
        outputs = self._to_fp32(self._wrapped(x))
        logits = logits_of(outputs)
        check_outputs(logits, self._classes)
        return outputs, logits

    def _loss(self, x: Tensor, outputs: Any, y: Tensor) -> Tensor:
        return self._method.loss(self._model, x, outputs, y, self._criterion)


@dataclass(frozen=True)
class EpochSums:
    """Results of the steps of an epoch, over all processes.

    Attributes:
        loss: mean of the loss that was minimized.
        top1: fraction of training images classified correctly during training.
        lr: learning rate of the last step.
        seconds: wall clock of the steps.
        images: images seen.
    """

    loss: float
    top1: float
    lr: float
    seconds: float
    images: int


@dataclass(frozen=True)
class Stepper:
    """Takes optimizer steps, for an epoch, for measurements and for benchmarks.

    Attributes:
        state: what is trained.
        forward: forward pass and loss, eager or compiled.
        accelerator: device and precision.
        config: settings of the training.
        steps: optimizer steps in an epoch.
    """

    state: TrainState
    forward: Forward
    accelerator: Accelerator
    config: TrainConfig
    steps: int

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step (from 1) of epoch `state.epoch`."""
        return learning_rate(self.config, self.state.epoch * self.steps + step - 1, self.steps)

    def step(self, x: Tensor, y: Tensor, lr: float, probe: Probe) -> tuple[Tensor, Tensor]:
        """Take one step on images `[B, C, H, W]` and labels `[B]`; return its loss and scores.

        Raises:
            CompressError: ``model-output``.
        """
        state = self.state
        set_learning_rate(state.optimizers, lr / self.config.lr)
        state.method.begin_step(state.model)
        with self.accelerator.autocast():
            loss, logits = self.forward(x, y, probe)
        probe.part("backward")
        self.accelerator.backward(loss)
        average_gradients(self.accelerator, self._outside)
        probe.part("optimizer")
        self._update()
        state.method.end_step(state.model)
        return loss.detach(), logits.detach()

    def _update(self) -> None:
        """Clip the gradients and step every optimizer.

        The loss scaler of fp16 is driven here and not by Accelerate's optimizer wrapper, which updates the
        scale after each of several optimizers and would unscale the gradients of the second by another scale.
        """
        state, scaler = self.state, self.state.scaler
        if scaler is not None:
            for optimizer in state.optimizers:
                scaler.unscale_(optimizer)
        if self.config.clip_grad is not None:
            torch.nn.utils.clip_grad_norm_(self._trained, self.config.clip_grad)
        for optimizer in state.optimizers:
            if scaler is not None:
                scaler.step(optimizer)
            else:
                optimizer.step()
        if scaler is not None:
            scaler.update()
        for optimizer in state.optimizers:
            optimizer.zero_grad(set_to_none=True)
        if state.ema is not None:
            state.ema.update(state.model)

    @cached_property
    def _trained(self) -> list[nn.Parameter]:
        return self.state.parameters()

    @cached_property
    def _outside(self) -> list[nn.Parameter]:
        return self.state.outside_parameters()


def train_epoch(
    stepper: Stepper,
    wrapped: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    progress: Progress,
    probe: Probe | None = None,
) -> EpochSums:
    """Run the steps of epoch `state.epoch`.

    Args:
        stepper: takes the steps.
        wrapped: what is trained, or its distributed wrapper.
        batches: this process's share: images `[B, C, H, W]` and labels `[B]`, as many batches as steps.
        progress: receives every step.
        probe: receives the parts of every step.

    Raises:
        CompressError: ``non-finite``; ``model-output``.
    """
    state, config, accelerator = stepper.state, stepper.config, stepper.accelerator
    probe = probe if probe is not None else NoProbe()
    device = accelerator.device
    monitor = LossMonitor(device, state.epoch + 1)
    state.model.train()
    wrapped.train()
    lr, own_images, step = config.lr, 0, 0
    began = time.perf_counter()
    source = iter(batches)
    while True:
        probe.begin(step + 1)
        probe.part("data")
        batch = next(source, None)
        if batch is None:
            break
        step += 1
        x, y = to_device(*batch, device, channels_last=config.channels_last)
        lr = stepper.learning_rate(step)
        loss, logits = stepper.step(x, y, lr, probe)
        probe.part("metrics")
        monitor.add(step, loss, logits, y)
        shown = monitor.read(step, loss, lr)
        probe.part(REST)
        own_images += y.shape[0]
        progress.step(y.shape[0] * accelerator.num_processes, shown)
        probe.end()
    monitor.check(lr)
    totals = torch.cat([monitor.sums, monitor.sums.new_tensor([own_images])])
    total, right, images = sum_over_processes(accelerator, totals).tolist()
    seconds = time.perf_counter() - began
    _check_finite(state, lr)
    return EpochSums(total / images, right / images, lr, seconds, int(images))


def _check_finite(state: TrainState, lr: float) -> None:
    """Raise if the weights are not finite after an epoch, before it is saved."""
    with torch.no_grad():
        norms = torch._foreach_norm([parameter.detach() for parameter in state.parameters()])
        if not bool(torch.isfinite(torch.stack(list(norms)).sum()).item()):
            raise non_finite(f"the weights are not finite after epoch {state.epoch + 1}", lr)
