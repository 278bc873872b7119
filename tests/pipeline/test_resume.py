"""Resuming needs the run folder only, and refuses settings that contradict the run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import REQUEST, SETTINGS, Make

from compress.artifact import RunFolder
from compress.core.errors import CompressError, Exit
from compress.methods import L1
from compress.pipeline import TrainRequest, run_training
from compress.pipeline import training as pipeline_training
from compress.training.loop import TrainingLoop


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "compact" / "weights.safetensors")


def stop_after(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt the next training once it has finished so many epochs."""
    whole = TrainingLoop._run_epoch

    def run_epoch(self: TrainingLoop) -> float:
        if self.state.epoch == epochs:
            raise KeyboardInterrupt
        return whole(self)

    monkeypatch.setattr(TrainingLoop, "_run_epoch", run_epoch)


@pytest.mark.parametrize("method", ["dcff", "l1"])
def test_interrupted_run_is_resumed_from_its_folder_only(
    method: str, request_for: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"epochs": 4, "warmup_epochs": 1.0}
    whole = run_training(request_for(method=method, out=tmp_path / "whole", settings=settings))
    with monkeypatch.context() as patch:
        if method == "l1":  # the second training is the method's own
            run_training(request_for(method="dense", target=None, out=tmp_path / "other"))
            shutil.copytree(f"{tmp_path}/whole-dense", f"{tmp_path}/run-dense")
        stop_after(1, patch)
        with pytest.raises(CompressError) as error:
            run_training(request_for(method=method, settings=settings))
        assert error.value.code == "interrupted"
    resumed = run_training(TrainRequest(out=tmp_path / "run", resume=True))
    assert (resumed.method, resumed.dense_epochs) == (method, whole.dense_epochs)
    expected = weights(whole.run)
    assert all(torch.equal(value, expected[name]) for name, value in weights(resumed.run).items())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of l1 with a dense stage before it."""
    out = tmp_path_factory.mktemp("finished") / "run"
    request = replace(REQUEST, method="l1", out=out, settings=SETTINGS | {"epochs": 3, "warmup_epochs": 1.0})
    run_training(request)
    return out


def resume(run: Path, **given: Any) -> Any:
    return run_training(TrainRequest(out=run, resume=True, **given))


def test_original_command_with_resume_is_accepted(finished: Path) -> None:
    settings = SETTINGS | {"epochs": 3, "warmup_epochs": 1.0}
    again = run_training(replace(REQUEST, method="l1", out=finished, resume=True, settings=settings))
    assert again.dense_epochs == 2 and again.epochs == 1


@pytest.mark.parametrize(
    ("given", "name", "was", "now"),
    [
        ({"method": "dcff"}, "method", "'l1'", "'dcff'"),
        ({"method": L1(residual="keep")}, "residual", "'tied'", "'keep'"),
        ({"model": "resnet20"}, "model", "'vgg_small'", "'resnet20'"),
        ({"target": "macs=0.5"}, "target", "'macs=0.3'", "'macs=0.5'"),
        ({"settings": {"lr": 0.2}}, "lr", "0.05", "0.2"),
        ({"settings": {"epochs": 5}}, "epochs", "3", "5"),
        ({"align": "4"}, "align", "'auto'", "'4'"),
        ({"input_size": (3, 8, 8)}, "input_size", "[1, 8, 8]", "[3, 8, 8]"),
    ],
)
def test_contradicting_setting_is_named_with_both_values(
    given: dict[str, Any], name: str, was: str, now: str, finished: Path
) -> None:
    with pytest.raises(CompressError) as error:
        resume(finished, **given)
    assert error.value.code == "resume-mismatch"
    message = error.value.message.replace("(1, 8, 8)", "[1, 8, 8]").replace("(3, 8, 8)", "[3, 8, 8]")
    assert f"{name} (was {was}, now {now})" in message
    assert "--resume --out RUN" in error.value.hint


def test_settings_that_do_not_change_the_result_may_be_given_anew(finished: Path) -> None:
    assert resume(finished, settings={"checkpoint_every": 3, "track": "none"}).method == "l1"


def test_misspelled_setting_is_named(finished: Path) -> None:
    with pytest.raises(CompressError, match="no setting 'epoch'"):
        resume(finished, settings={"epoch": 3})


def test_run_interrupted_in_its_dense_stage_hints_at_resume(
    request_for: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_for(method="l1", settings={"epochs": 3})
    with monkeypatch.context() as patch:
        stop_after(1, patch)
        with pytest.raises(CompressError):
            run_training(request, command=["compress", "train", "--method", "l1"])
    with pytest.raises(CompressError, match="dense network was trained") as error:
        resume(tmp_path / "run")
    assert "compress train --method l1 --resume" in error.value.hint
    assert run_training(replace(request, resume=True)).dense_epochs == 2


def test_resume_alone_names_the_folder_that_holds_no_run(tmp_path: Path) -> None:
    with pytest.raises(CompressError) as error:
        run_training(TrainRequest(out=tmp_path / "typo", resume=True))
    assert error.value.code == "nothing-to-resume" and error.value.exit == Exit.MISSING
    assert "typo" in error.value.message and "--resume --out RUN" in error.value.hint


def test_resume_without_a_folder_says_that_it_needs_one() -> None:
    with pytest.raises(CompressError, match="needs --out RUN") as error:
        run_training(TrainRequest(resume=True))
    assert error.value.code == "nothing-to-resume" and error.value.exit == Exit.USAGE


def test_failed_training_leaves_no_dense_folder(request_for: Make, tmp_path: Path) -> None:
    request = request_for(method="l1", settings={"epochs": 3, "lr": 1e30})
    with pytest.raises(CompressError) as error:
        run_training(request)
    assert error.value.code == "non-finite"
    assert not (tmp_path / "run-dense").exists()
    assert run_training(request_for(method="l1", settings={"epochs": 3})).dense_epochs == 2


def test_full_disk_while_saving_hints_at_resume(request_for: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(run: RunFolder, *arguments: object) -> dict[str, Any]:
        raise CompressError(
            "no space is left",
            hint="free some space on that file system, then repeat the command",
            code="disk-full",
        )

    request = request_for(method="dcff")
    with monkeypatch.context() as patch:
        patch.setattr(pipeline_training, "save_verified", full)
        with pytest.raises(CompressError) as error:
            run_training(request)
    assert error.value.hint == "free some space on that file system, then resume with --resume"
    assert "2 of 2 epochs are saved" in error.value.message
    assert request.out is not None and resume(Path(request.out)).epochs == 2
