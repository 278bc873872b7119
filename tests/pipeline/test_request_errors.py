"""An error in a request is reported in one line with the value, and no files are left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiny_training import Make

from compress.core.errors import CompressError, Exit
from compress.pipeline import TrainRequest, plan_request, resolve, run_training, slice

Case = tuple[dict[str, Any], str, Exit, list[str]]
CASES: dict[str, Case] = {
    "method": ({"method": "dccf"}, "unknown-method", Exit.USAGE, ["'dccf'", "dcff"]),
    "model": ({"model": "vgg_smal"}, "unknown-model", Exit.USAGE, ["vgg_smal", "vgg_small"]),
    "data": ({"data": "digit"}, "unknown-data", Exit.USAGE, ["'digit'", "digits"]),
    "data-file": ({"data": "npz:none.npz"}, "missing-file", Exit.MISSING, ["none.npz"]),
    "recipe": ({"recipe": "dcff-vgg-cifar10"}, "unknown-recipe", Exit.USAGE, ["dcff-vgg16-cifar10"]),
    "weights": ({"weights": "none.safetensors"}, "missing-file", Exit.MISSING, ["none.safetensors"]),
    "target-form": ({"target": "flops=0.5"}, "bad-target", Exit.USAGE, ["flops=0.5", "macs=0.5"]),
    "target-low": (
        {"target": "macs=0.00001"},
        "target-unreachable",
        Exit.USAGE,
        ["1e-05", "smallest possible"],
    ),
    "target-high": ({"target": "macs=900M"}, "target-range", Exit.USAGE, ["macs=9e+08"]),
    "no-target": ({"target": None}, "no-target", Exit.USAGE, ["--target"]),
    "two-targets": ({"drop": {"features.*": [0.5]}}, "two-targets", Exit.USAGE, ["both"]),
    "drop-name": ({"target": None, "drop": {"layer1": [0.5]}}, "unknown-group", Exit.USAGE, ["layer1"]),
    "drop-range": ({"target": None, "drop": {"features.*": [1.5]}}, "drop-range", Exit.USAGE, ["1.5"]),
    "classes-more": ({"num_classes": 12}, "class-count", Exit.USAGE, ["12", "10", "--num-classes"]),
    "classes-fewer": ({"num_classes": 3}, "class-count", Exit.USAGE, ["3", "10"]),
    "size": ({"input_size": (1, 2, 2)}, "input-size", Exit.USAGE, ["2x2"]),
    "align": ({"align": "wide"}, "bad-align", Exit.USAGE, ["wide"]),
    "setting": ({"settings": {"epoch": 3}}, "bad-setting", Exit.USAGE, ["epoch", "epochs"]),
    "epochs": ({"settings": {"epochs": 0}}, "bad-setting", Exit.USAGE, ["'epochs'", "given: 0"]),
    "lr": ({"settings": {"lr": -1.0}}, "bad-setting", Exit.USAGE, ["'lr'", "given: -1.0"]),
    "warmup": ({"settings": {"warmup_epochs": 3}}, "bad-setting", Exit.USAGE, ["warmup_epochs 3"]),
    "option": ({"options": {"t_end": 0}}, "bad-setting", Exit.USAGE, ["'t_end'", "given: 0"]),
    "precision": ({"settings": {"precision": "fp16"}}, "precision", Exit.USAGE, ["fp16", "cpu"]),
    "nothing-to-resume": ({"resume": True}, "nothing-to-resume", Exit.MISSING, ["run.json"]),
}


def caught(action: Callable[[], object]) -> CompressError:
    with pytest.raises(CompressError) as error:
        action()
    return error.value


@pytest.mark.parametrize("case", CASES)
def test_invalid_request_is_reported_and_writes_no_file(case: str, request_for: Make) -> None:
    changes, code, exit_code, words = CASES[case]
    request = request_for(**changes)
    error = caught(lambda: run_training(request))
    assert (error.code, error.exit) == (code, exit_code), error
    assert all(word in str(error) for word in words), error
    assert "\n" not in str(error) and error.message
    assert request.out is not None and not Path(request.out).exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_missing_device_writes_no_file(request_for: Make) -> None:
    request = request_for(settings={"device": "cuda"})
    error = caught(lambda: run_training(request))
    assert (error.code, error.exit) == ("no-device", Exit.MISSING) and "cuda" in error.message
    assert request.out is not None and not Path(request.out).exists()


def test_weights_of_another_network_are_refused_without_writing_files(
    request_for: Make, tmp_path: Path
) -> None:
    save_file({"conv.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    request = request_for(weights=str(tmp_path / "other.safetensors"))
    error = caught(lambda: run_training(request))
    assert "conv.weight" in error.message or "conv.weight" in error.hint
    assert request.out is not None and not Path(request.out).exists()


@pytest.mark.parametrize("missing", ["model", "data"])
def test_missing_name_is_reported_with_its_flag(missing: str, request_for: Make) -> None:
    error = caught(lambda: resolve(request_for(**{missing: None})))
    assert f"--{missing}" in error.hint and error.exit == Exit.USAGE


def test_diverged_training_leaves_no_compact_model(request_for: Make) -> None:
    request = request_for(settings={"lr": 1e30})
    error = caught(lambda: run_training(request))
    assert error.code == "non-finite"
    assert request.out is not None and not (Path(request.out) / "compact").exists()


def test_resume_with_another_target_is_refused_and_the_model_stays(request_for: Make) -> None:
    run = Path(run_training(request_for()).run)
    before = (run / "compact" / "model.json").read_bytes()
    error = caught(lambda: run_training(request_for(resume=True, target="macs=0.5")))
    assert error.code == "resume-mismatch" and "macs=0.3" in error.message and "macs=0.5" in error.message
    assert (run / "compact" / "model.json").read_bytes() == before


def test_settings_of_the_method_belong_to_the_method() -> None:
    request = TrainRequest(
        method="scratch", model="vgg16", data="digits", target="macs=0.5", options={"k": 2}
    )
    error = caught(lambda: resolve(request))
    assert "option of scratch 'k'" in error.message


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model": "vgg_smal"}, "unknown-model"),
        ({"data": "digit"}, "unknown-data"),
        ({"target": "macs=0.00001"}, "target-unreachable"),
        ({"weights": "none.safetensors"}, "missing-file"),
        ({"num_classes": 12}, "class-count"),
        ({"criterion": "best"}, "unknown-criterion"),
    ],
)
def test_invalid_slice_writes_no_file(changes: dict[str, Any], code: str, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {
        "model": "vgg_small",
        "data": "digits",
        "target": "macs=0.5",
        "input_size": (1, 8, 8),
    }
    error = caught(lambda: slice(**(arguments | changes), out=tmp_path / "cut"))
    assert error.code == code, error
    assert not (tmp_path / "cut").exists()


def test_network_for_color_images_is_refused_for_gray_data(request_for: Make, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                         nn.Linear(8, 10))\n"
    )
    request = request_for(model=f"{tmp_path / 'net.py'}:net", input_size=None)
    error = caught(lambda: run_training(request))
    assert error.code == "input-channels" and error.exit == Exit.USAGE
    assert "3 channels" in error.message and "--input-size 3," in error.hint and "data set" in error.hint


def test_network_for_gray_images_is_refused_for_color_data(request_for: Make, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                         nn.Linear(8, 10))\n"
    )
    request = request_for(model=f"{tmp_path / 'net.py'}:net", input_size=(3, 8, 8))
    error = caught(lambda: run_training(request))
    assert error.code == "input-channels" and "1 channels, the data have 3" in error.message


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_dry_run_checks_the_device(request_for: Make) -> None:
    resolved = resolve(request_for(settings={"device": "cuda"}, num_classes=10))
    assert caught(lambda: plan_request(resolved)).code == "no-device"
