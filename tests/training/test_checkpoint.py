"""A resumed training reaches the result of an uninterrupted one."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import training_job
from training_job import Job

from compress.artifact import RunFolder
from compress.core.errors import CompressError, Exit
from compress.training import PlainMethod, load_checkpoint, read_metrics
from compress.training.checkpoint import checkpoint_path


def last(out: Path) -> dict[str, Any]:
    return load_checkpoint(RunFolder.open(out))


def same(a: Any, b: Any) -> bool:
    """Return whether two nested states are equal to the bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


@pytest.mark.slow
def test_killed_in_mid_epoch_and_resumed_is_bit_equal_to_uninterrupted(tmp_path: Path, job: Job) -> None:
    settings = ("ema=0.99", "clip_grad=5.0")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert job.run(str(whole), *settings) == (0, "")
    process = job.start_paused(cut, "2:7", *settings)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert last(cut)["epoch"] == 1
    assert job.run(str(cut), "--resume", *settings) == (0, "")
    assert same(last(whole), last(cut))


def test_resumed_log_has_every_epoch_once(tmp_path: Path, job: Job) -> None:
    process = job.start_paused(tmp_path / "run", "3:1")
    process.send_signal(signal.SIGKILL)
    process.wait()
    log = tmp_path / "run" / "metrics.jsonl"
    with log.open("a") as file:
        file.write('{"epoch": 3, "train_loss": 1.0}\n{"epo')
    training_job.train(tmp_path / "run", resume=True)
    assert [row["epoch"] for row in read_metrics(log)] == [1, 2, 3]
    assert read_metrics(log)[2]["train_loss"] != 1.0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_exits_130_and_hints_at_resume(number: signal.Signals, tmp_path: Path, job: Job) -> None:
    process = job.start_paused(tmp_path / "run", "2:2")
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    error = json.loads(errors.splitlines()[-1])
    assert process.returncode == Exit.INTERRUPTED
    assert error["code"] == "interrupted"
    assert "1 of 3 epochs are saved" in error["message"] and "--resume" in error["message"]
    assert last(tmp_path / "run")["epoch"] == 1


def test_interrupted_before_the_first_checkpoint_resumes_from_the_start(tmp_path: Path, job: Job) -> None:
    process = job.start_paused(tmp_path / "run", "1:2", "epochs=1")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert training_job.train(tmp_path / "run", resume=True, epochs=1).epochs == 1


def test_resuming_a_finished_run_gives_its_final_weights(tmp_path: Path) -> None:
    first = training_job.train(tmp_path / "run", epochs=1, ema=0.9)
    again = training_job.train(tmp_path / "run", epochs=1, ema=0.9, resume=True)
    assert same(first.model.state_dict(), again.model.state_dict())
    assert again.top1 == first.top1


def test_other_settings_on_resume_are_named(tmp_path: Path) -> None:
    training_job.train(tmp_path / "run", epochs=1)
    with pytest.raises(CompressError, match=r"epochs \(was 1, now 2\), lr \(was 0.05, now 0.1\)") as error:
        training_job.train(tmp_path / "run", epochs=2, lr=0.1, resume=True)
    assert error.value.code == "resume-mismatch"
    assert error.value.details == {"differing": ["epochs", "lr"]}


def test_truncated_checkpoint_is_reported_with_a_fix_and_not_changed(tmp_path: Path) -> None:
    training_job.train(tmp_path / "run", epochs=1)
    path = checkpoint_path(RunFolder.open(tmp_path / "run"))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CompressError, match=r"last\.pt.*truncated or damaged") as error:
        training_job.train(tmp_path / "run", epochs=1, resume=True)
    assert error.value.exit == Exit.MISSING
    assert "best.pt" in error.value.hint
    assert path.read_bytes() == content[: len(content) // 2]


def test_one_changed_byte_in_a_checkpoint_is_noticed(tmp_path: Path) -> None:
    training_job.train(tmp_path / "run", epochs=1)
    run = RunFolder.open(tmp_path / "run")
    path = checkpoint_path(run)
    content = bytearray(path.read_bytes())
    bias = load_checkpoint(run)["model"]["4.bias"].numpy().tobytes()
    content[content.index(bias) + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(CompressError, match="checksum"):
        load_checkpoint(run)


class TwoOptimizers(PlainMethod):
    """Method with two optimizers, its own parameters and a state, all of which a resume must restore."""

    def __init__(self) -> None:
        self.scale = torch.nn.Parameter(torch.ones(10))
        self.epochs_seen = 0

    def loss(self, model: Any, inputs: Any, outputs: Any, targets: Any, criterion: Any) -> Any:
        return criterion(outputs * self.scale, targets)

    def build_optimizers(self, model: Any, config: Any) -> list[torch.optim.Optimizer]:
        return [
            torch.optim.SGD(model.parameters(), lr=config.lr, momentum=0.9),
            torch.optim.Adamax([self.scale], lr=0.01),
        ]

    def end_epoch(self, model: Any, epoch: int, epochs: int) -> None:
        self.epochs_seen += 1

    def metrics(self) -> dict[str, float]:
        return {"scale": float(self.scale.detach().mean())}

    def state_dict(self) -> dict[str, Any]:
        return {"scale": self.scale.detach(), "epochs_seen": self.epochs_seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epochs_seen = state["epochs_seen"]
        with torch.no_grad():
            self.scale.copy_(state["scale"])


class StopAfterFirstEpoch(training_job.NoProgress):
    def epoch(self, row: dict[str, Any]) -> None:
        raise KeyboardInterrupt


def test_two_optimizers_and_a_methods_own_parameters_resume_bit_equal(tmp_path: Path) -> None:
    training_job.train(tmp_path / "whole", epochs=2, method=TwoOptimizers())
    with pytest.raises(CompressError, match="interrupted"):
        training_job.train(tmp_path / "cut", epochs=2, method=TwoOptimizers(), progress=StopAfterFirstEpoch())
    training_job.train(tmp_path / "cut", epochs=2, method=TwoOptimizers(), resume=True)
    whole, cut = last(tmp_path / "whole"), last(tmp_path / "cut")
    assert whole["method"]["epochs_seen"] == 2
    assert not torch.equal(whole["method"]["scale"], torch.ones(10))
    assert same(whole, cut)


def test_every_optimizer_follows_the_schedule(tmp_path: Path) -> None:
    training_job.train(
        tmp_path / "run", epochs=2, method=TwoOptimizers(), schedule="step", gamma=0.1, warmup_epochs=0
    )
    rates = [state["param_groups"][0]["lr"] for state in last(tmp_path / "run")["optimizers"]]
    assert rates == pytest.approx([0.005, 0.001])


def test_a_methods_metrics_are_in_the_log(tmp_path: Path) -> None:
    result = training_job.train(tmp_path / "run", epochs=1, method=TwoOptimizers())
    assert result.history[0]["scale"] == pytest.approx(
        float(last(tmp_path / "run")["method"]["scale"].mean())
    )


def test_parametrized_network_with_an_average_resumes_bit_equal(tmp_path: Path) -> None:
    def network() -> torch.nn.Module:
        model = training_job.network()
        torch.nn.utils.parametrizations.weight_norm(model[4])
        return model

    settings: dict[str, Any] = {"epochs": 2, "ema": 0.99, "precision": "bf16"}
    training_job.train(tmp_path / "whole", model=network(), **settings)
    with pytest.raises(CompressError, match="interrupted"):
        training_job.train(tmp_path / "cut", model=network(), progress=StopAfterFirstEpoch(), **settings)
    training_job.train(tmp_path / "cut", model=network(), resume=True, **settings)
    assert "4.parametrizations.weight.original1" in last(tmp_path / "cut")["model"]
    assert same(last(tmp_path / "whole"), last(tmp_path / "cut"))
