"""Weights that were trained for other classes: one behavior in train, slice and compare."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from compress import cli, models
from compress.bench.comparison.pipeline import compare
from compress.pipeline import slice as slice_model
from compress.pipeline import train

SIZE = (1, 8, 8)
NOTE = "the classifier 'classifier' is not loaded; it starts from random weights"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights of the network for 1,000 classes."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "imagenet.pt"
    torch.save(models.build("vgg_small", 1000, SIZE).state_dict(), path)
    return str(path)


def run_train(weights: str, out: Path) -> None:
    settings = {"epochs": 1, "batch_size": 256, "lr": 0.01}
    train(
        "vgg_small", "digits", "l1", target="macs=0.5", weights=weights, out=out, input_size=SIZE, **settings
    )


def run_slice(weights: str, out: Path) -> None:
    slice_model("vgg_small", "macs=0.5", data="digits", weights=weights, out=out, input_size=SIZE)


def run_compare(weights: str, out: Path) -> None:
    compare(
        "vgg_small",
        "digits",
        ["l1"],
        target="macs=0.5",
        epochs=1,
        seeds=1,
        out=out,
        batch_size=256,
        input_size=SIZE,
        weights=weights,
        latency=False,
    )


@pytest.mark.parametrize("run", [run_train, run_slice, run_compare])
def test_weights_for_other_classes_get_a_new_classifier_with_one_warning(
    run: Callable[[str, Path], None], weights: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(weights, tmp_path / "out")
    assert sum(NOTE in message for message in caplog.messages) == 1
    infos = list((tmp_path / "out").rglob("compact/model.json"))
    assert infos and all(json.loads(info.read_text())["model"]["num_classes"] == 10 for info in infos)


def test_without_a_new_classifier_the_command_line_refuses_them(
    weights: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [
        "slice",
        "--model",
        "vgg_small",
        "--data",
        "digits",
        "--input-size",
        "1,8,8",
        "--target",
        "macs=0.5",
    ]
    code = cli.run([*words, "--weights", weights, "--no-reset-head", "--out", str(tmp_path / "out")])
    assert code == 2
    assert "was trained for 1000 classes and the model has 10" in capfd.readouterr().err


def test_a_forced_new_classifier_is_recorded_in_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(models.build("vgg_small", 10, SIZE).state_dict(), tmp_path / "digits.pt")
    settings = {"epochs": 1, "batch_size": 256, "lr": 0.01}
    train(
        "vgg_small",
        "digits",
        "l1",
        target="macs=0.5",
        weights=tmp_path / "digits.pt",
        reset_head=True,
        out=tmp_path / "run",
        input_size=SIZE,
        **settings,
    )
    assert NOTE in caplog.text
    assert json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["reset_head"] is True
