"""Compiled steps have the losses of eager ones; measuring them does not change the training."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import training_job
from torch import nn

from benchmarks.steps import Side, side, training
from compress.artifact import RunFolder
from compress.core.errors import CompressError
from compress.training import TrainConfig, steps
from compress.training.compiling import MIN_REMAINING_S, Decision, Trial
from compress.training.steps import EAGER, Mode


def tiny() -> nn.Module:
    """The smallest network that every method can cut: two layers with norms, two resolutions."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


def losses(method: str, mode: Mode, backend: str, epochs: int = 2) -> list[float]:
    """Losses of two steps in each of the first epochs."""
    torch.compiler.reset()
    results = []
    with training(device="cpu", optimizer="sgd", lr=0.05) as (accelerator, config):
        made = side(accelerator, config, method, tiny(), batch=4, pixels=8, backend=backend)
        made.stepper.forward.use(mode)
        for epoch in range(epochs):
            made.begin(epoch)
            with torch._dynamo.config.patch(error_on_recompile=epoch > 0):
                results += [float(made.step()) for _ in range(2)]
    return results


@pytest.mark.parametrize("method", ["dcff", "kdfs", "abp"])
def test_traced_steps_have_the_losses_of_eager_ones_and_no_epoch_compiles_again(method: str) -> None:
    traced, eager = (losses(method, mode, "aot_eager") for mode in ("compiled", EAGER))
    assert traced == pytest.approx(eager, rel=1e-4)
    assert len(set(eager)) == 4


@pytest.mark.slow
def test_compiled_steps_of_dcff_have_the_losses_of_eager_ones() -> None:
    compiled, eager = (losses("dcff", mode, "inductor") for mode in ("compiled", EAGER))
    assert compiled == pytest.approx(eager, rel=1e-3)


@pytest.mark.parametrize("method", ["dcff", "kdfs", "abp"])
def test_measuring_modes_does_not_change_the_training(method: str, tmp_path: Path) -> None:
    results = []
    for measured in (False, True):
        with training(device="cpu", ema=0.9) as (accelerator, config), folder(tmp_path / "run") as run:
            made = side(accelerator, config, method, tiny(), batch=4, pixels=8, backend="eager")
            if measured:
                decision = trial(made, run).measure_modes(("compiled",), left=1000, least_s=0.0)
                assert set(decision.step_ms) == {"eager", "compiled"} and decision.steps_left == 1000
            made.stepper.forward.use(EAGER)
            made.begin(0)
            results.append(([float(made.step()) for _ in range(3)], made.stepper.state.state_dict(config)))
        shutil.rmtree(tmp_path / "run")
    (losses, state), (losses_after, state_after) = results
    assert losses == losses_after
    assert same(state, state_after)


def test_steps_are_not_compiled_if_few_remain(tmp_path: Path) -> None:
    with training(device="cpu") as (accelerator, config), folder(tmp_path / "run") as run:
        made = side(accelerator, config, "dense", tiny(), batch=4, pixels=8, backend=broken)
        decision = trial(made, run).measure_modes(("compiled",), left=2)
    assert decision.mode == "eager" and "too few" in decision.why


def test_training_continues_eagerly_if_the_compiler_fails(tmp_path: Path) -> None:
    with training(device="cpu") as (accelerator, config), folder(tmp_path / "run") as run:
        made = side(accelerator, config, "dense", tiny(), batch=4, pixels=8, backend=broken)
        decision = trial(made, run).measure_modes(("compiled",), left=1000, least_s=0.0)
    assert decision.mode == "eager"
    assert "no C++ compiler" in decision.failed["compiled"]


def test_compiled_training_has_the_log_of_the_eager_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "BACKEND", "aot_eager")
    logs = []
    for wish in ("on", "off"):
        model = training_job.network(dropout=0.0)
        result = training_job.train(tmp_path / wish, model=model, epochs=2, compile=wish)
        logs.append([row["train_loss"] for row in result.history])
    assert logs[0] == pytest.approx(logs[1], rel=1e-4)
    decided = [RunFolder.open(tmp_path / w).record.decisions["compile"] for w in ("on", "off")]
    assert [d["mode"] for d in decided] == ["compiled", "eager"]
    assert decided[0]["compile_s"]["compiled"] > 0


def test_modes_are_not_measured_on_a_cpu_and_the_run_records_it(tmp_path: Path) -> None:
    training_job.train(tmp_path / "run", epochs=1)
    decided = RunFolder.open(tmp_path / "run").record.decisions
    assert decided["compile"]["mode"] == "eager" and "--compile on" in decided["compile"]["why"]
    assert decided["data_on_device"]["on_device"] is True


def test_compile_setting_that_is_impossible_here_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "BACKEND", broken)
    with pytest.raises(CompressError, match=r"on cpu cannot be compiled.*no C\+\+ compiler") as error:
        training_job.train(tmp_path / "a", epochs=1, compile="on")
    assert "--compile auto or off" in error.value.hint
    with pytest.raises(CompressError, match="CUDA graphs need a CUDA device"):
        training_job.train(tmp_path / "b", epochs=1, device="cpu", compile="cuda-graphs")


def broken(graph: Any, inputs: Any) -> Any:
    """A backend without a compiler."""
    raise RuntimeError("no C++ compiler")


def folder(path: Path) -> RunFolder:
    return RunFolder.create(path, training_job.record_for(TrainConfig(**training_job.SETTINGS)))


def trial(made: Side, run: RunFolder) -> Tried:
    return Tried(Trial(made.stepper, run, lambda: made.begin(0), lambda: [(made.x, made.y)]))


class Tried:
    """Trial that restores the training state after measuring, as `choose_mode` does."""

    def __init__(self, inner: Trial) -> None:
        self._inner = inner

    def measure_modes(self, modes: tuple[Mode, ...], left: int, least_s: float = MIN_REMAINING_S) -> Decision:
        try:
            return self._inner.measure_modes(modes, left, least_s)
        finally:
            self._inner.restore()


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)
