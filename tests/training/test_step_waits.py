"""No step of any method waits for the device or copies data from the host to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.steps import side, training
from compress.training.loss_monitor import LossMonitor

READS = {"aten._local_scalar_dense.default", "aten.is_nonzero.default", "aten.equal.default"}
SENDS = {"aten.lift_fresh.default"}
"""What a tensor of Python numbers becomes; on a GPU, a copy from pageable memory."""


CALLS = {"tolist", "cpu", "numpy", "item", "__bool__", "__float__", "__int__", "__index__"}
"""Methods of a tensor; on a CPU some of them never reach the dispatcher."""


class Calls(TorchFunctionMode):
    """Counts methods of tensors that a GPU would be waited for."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()
        self._note = note

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if getattr(func, "__name__", "") in CALLS:
            self._note(func.__name__)
        return func(*args, **(kwargs or {}))


class Waits(TorchDispatchMode):
    """Counts operations that would wait for a GPU; a probe that knows which part of a step runs.

    Args:
        ignored: a part that is not looked at.
    """

    def __init__(self, ignored: str = "") -> None:
        super().__init__()
        self.found: list[str] = []
        self._ignored, self._part = ignored, ""
        self._calls = Calls(self._note)

    def _note(self, what: str) -> None:
        if self._part != self._ignored or not self._ignored:
            self.found.append(f"{self._part}: {what}")

    def __enter__(self) -> Waits:
        self._calls.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._calls.__exit__(*error)

    def begin(self, step: int) -> None:
        pass

    def part(self, name: str) -> None:
        self._part = name

    def end(self) -> None:
        pass

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        moved = str(func) == "aten._to_copy.default" and kwargs.get("device") not in (None, args[0].device)
        if str(func) in READS | SENDS or moved:
            self._note(str(func))
        return func(*args, **kwargs)


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: float(x[0]),
        lambda x: torch.tensor([1.0, 2.0]),
        lambda x: x.to("meta"),
    ],
    ids=["item", "bool", "tolist", "cpu", "float", "tensor", "to"],
)
def test_synchronizing_operations_are_counted(wait: Callable[[Any], Any]) -> None:
    x = torch.ones(2)
    with Waits() as waits:
        (x * 2).sum()
        assert waits.found == []
        wait(x)
        assert waits.found


@pytest.mark.parametrize("method", ["dense", "scratch", "dcff", "kdfs", "abp"])
def test_no_step_waits(method: str) -> None:
    """The optimizer part is ignored: Adamax counts steps in host tensors, which need no synchronization."""
    with training(device="cpu", ema=0.9, clip_grad=1.0, label_smoothing=0.1) as (accelerator, config):
        made = side(accelerator, config, method, "vgg_small", batch=4, pixels=8)
        for epoch in (0, 7):  # searching, and with final masks
            made.begin(epoch)
            monitor = LossMonitor(torch.device("cpu"), 1)
            with Waits(ignored="optimizer" if method == "kdfs" else "") as waits:
                for step in (1, 2):
                    loss, logits = made.stepper.step(made.x, made.y, 0.01, waits)
                    waits.part("metrics")
                    monitor.add(step, loss, logits, made.y)
            assert waits.found == []
            assert float(monitor.sums[0]) > 0
