"""Compiled steps give the losses of eager ones, and are compiled once."""

from __future__ import annotations

import pytest
import torch

from benchmarks.steps import side, training


def losses(method: str, mode: str, backend: str, model: str = "vgg_small", epochs: int = 3) -> list[float]:
    """Losses of two steps in each of the first epochs."""
    torch.compiler.reset()
    found = []
    with training(device="cpu", optimizer="sgd", lr=0.05) as (accelerator, config):
        made = side(accelerator, config, method, model, batch=8, pixels=16, backend=backend)
        made.stepper.forward.use(mode)  # type: ignore[arg-type]
        for epoch in range(epochs):
            made.begin(epoch)
            with torch._dynamo.config.patch(error_on_recompile=epoch > 0):
                found += [float(made.step()) for _ in range(2)]
    return found


@pytest.mark.parametrize("method", ["dense", "dcff", "kdfs", "abp"])
def test_traced_steps_have_the_losses_of_eager_ones_and_no_epoch_compiles_again(method: str) -> None:
    eager, traced = (losses(method, mode, "aot_eager") for mode in ("eager", "compiled"))
    assert traced == pytest.approx(eager, rel=1e-4)
    assert len(set(eager)) > 1
