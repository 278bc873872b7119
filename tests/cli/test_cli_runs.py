"""Runs made by one command and read by the next: train, eval, export, bench, slice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_calls import NETWORK, TRAIN, Here, Outcome, command, content
from safetensors.torch import save_file
from torch import nn

from compress import artifact, data, models


def test_the_run_of_train_records_what_the_command_printed(trained: tuple[Path, Outcome]) -> None:
    run, outcome = trained
    printed = outcome.json
    info = artifact.compact_info(run)
    assert printed["command"] == "train"
    assert printed["compact"] == info.compact.model_dump()
    assert printed["dense"] == info.dense.model_dump()
    assert printed["top1"] == info.extra["top1"] > 0.5
    assert printed["verify"]["compact_vs_trained"]["passed"]
    assert "is_first" not in printed
    assert outcome.err.count("epoch ") == 3


def test_train_meets_its_target(trained: tuple[Path, Outcome]) -> None:
    printed = trained[1].json
    assert printed["compact"]["macs"] / printed["dense"]["macs"] == pytest.approx(0.5, rel=0.01)


def test_the_run_records_its_command(trained: tuple[Path, Outcome]) -> None:
    stored = json.loads((trained[0] / "run.json").read_text())["command"]
    assert stored[:2] == ["compress", "train"]
    assert stored[-1] == "--json"


def test_eval_reports_the_accuracy_of_the_training(trained: tuple[Path, Outcome], tmp_path: Path) -> None:
    result = command("eval", trained[0], "--json", cwd=tmp_path)
    assert result.code == 0, result.err
    assert result.json["top1"] == pytest.approx(trained[1].json["top1"])
    assert result.json["count"] == 360
    assert "confusion" not in result.json


def test_eval_prints_the_confusion_matrix_on_request(call: Here, run: Path) -> None:
    result = call("eval", run, "--confusion", "--json").json
    counts = np.array(result["confusion"])
    assert counts.sum() == 360
    assert np.trace(counts) == round(result["top1"] * 360)
    assert result["classes"] == [str(digit) for digit in range(10)]
    lines = call("eval", run, "--confusion").out.splitlines()
    assert len(lines) == 12
    assert lines[0].startswith(f"top-1 {result['top1']:.2%}")
    assert lines[2].split()[:2] == ["0:", str(counts[0, 0])]


def test_export_then_eval_of_the_file_agrees_with_the_run(run: Path, tmp_path: Path) -> None:
    exported = command("export", run, "--batch", 8, "--json", cwd=tmp_path)
    assert exported.code == 0, exported.err
    record = exported.json
    assert record["path"] == str(run / "export" / "model.onnx")
    assert record["batch"] == 8
    assert record["parity"]["passed"]
    result = command("eval", record["path"], "--data", "digits", "--json", cwd=tmp_path)
    assert result.code == 0, result.err
    assert result.json["top1"] == pytest.approx(artifact.compact_info(run).extra["top1"])


def test_export_prints_the_path_alone_on_stdout(call: Here, run: Path) -> None:
    result = call("export", run)
    assert (result.code, result.out) == (0, f"{run / 'export' / 'model.onnx'}\n")
    assert "parity on 256 images" in result.err


def test_bench_writes_and_prints_the_same_result(run: Path, tmp_path: Path) -> None:
    actual = command(
        "bench", run, "--pairs", 10, "--sessions", 2, "--threads", 1, "--batch", "1", "--json", cwd=tmp_path
    )
    assert actual.code == 0, actual.err
    assert actual.err == ""
    result = actual.json["result"]
    assert result == json.loads((run / "bench" / "results.json").read_text())
    assert result["comparisons"][0]["batches"][0]["mac_reduction"] == pytest.approx(2, rel=0.02)


def test_bench_prints_a_table_for_people(call: Here, run: Path) -> None:
    result = call("bench", run, "--pairs", 10, "--sessions", 2, "--threads", 1, "--batch", "2")
    assert (result.code, result.err) == (0, "")
    for word in ("dense", "compact", "speed-up", "95% interval", "efficiency"):
        assert word in result.out
    assert "\x1b[" not in result.out


def test_a_second_training_into_the_same_folder_is_refused(call: Here, run: Path) -> None:
    before = content(run)
    result = call(*TRAIN, "--epochs", 3, "--out", run, "--json")
    assert (result.code, result.json["error"]["code"]) == (2, "run-exists")
    assert "--resume" in result.json["error"]["hint"]
    assert content(run) == before


def test_resuming_a_finished_training_changes_no_weight(call: Here, run: Path) -> None:
    before = artifact.compact_info(run).weights_sha256
    result = call(*TRAIN, "--epochs", 3, "--out", run, "--resume")
    assert result.code == 0, result.err
    assert "top-1" in result.out
    assert artifact.compact_info(run).weights_sha256 == before


def test_resuming_with_other_settings_is_refused(call: Here, run: Path) -> None:
    before = content(run)
    result = call(*TRAIN, "--epochs", 4, "--out", run, "--resume", "--json")
    assert (result.code, result.json["error"]["code"]) == (2, "resume-mismatch")
    assert result.json["error"]["details"]["differing"] == ["epochs"]
    assert content(run) == before


@pytest.fixture
def dense(tmp_path: Path) -> nn.Module:
    """A dense network whose weights are in `dense.safetensors`, and as of a data-parallel run in `ddp.pt`."""
    torch.manual_seed(5)
    model = models.build("vgg_small", 10, (1, 8, 8))
    save_file(model.state_dict(), tmp_path / "dense.safetensors")
    wrapped = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": wrapped, "epoch": 3}, tmp_path / "ddp.pt")
    return model


def filters(model: nn.Module) -> list[torch.Tensor]:
    """The convolutions' weights."""
    return [p.detach() for p in model.parameters() if p.ndim == 4]


@pytest.mark.parametrize("name", ["dense.safetensors", "ddp.pt"])
def test_training_starts_from_the_weights_in_a_file(call: Here, dense: nn.Module, name: str) -> None:
    still = ("--epochs", 1, "--lr", "1e-9", "--weight-decay", 0, "--seed", 9)
    made = call("train", *NETWORK, "--method", "dense", "--weights", name, *still, "--out", "new")
    assert made.code == 0, made.err
    for result, expected in zip(filters(artifact.load("new")), filters(dense), strict=True):
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-4)


def test_slicing_is_the_same_from_either_form_of_weights(call: Here, dense: nn.Module) -> None:
    hashes = set()
    for seed, name in enumerate(("dense.safetensors", "ddp.pt")):
        words = ("--weights", name, "--target", "params=0.5", "--seed", seed, "--out", f"cut-{seed}")
        assert call("slice", *NETWORK, *words).code == 0
        hashes.add(artifact.compact_info(f"cut-{seed}").weights_sha256)
    assert len(hashes) == 1


def test_slice_keeps_the_strongest_channels_of_the_weights(call: Here, tmp_path: Path) -> None:
    model = models.build("vgg_small", 10, (1, 8, 8))
    first = filters(model)[0]
    first[3] *= 100
    save_file(model.state_dict(), tmp_path / "dense.safetensors")
    words = ("--weights", "dense.safetensors", "--target", "macs=0.3", "--out", "cut")
    result = call("slice", *NETWORK, *words, "--json").json
    assert result["compact"]["macs"] / result["dense"]["macs"] == pytest.approx(0.3, rel=0.01)
    assert any(torch.equal(kept, first[3]) for kept in filters(artifact.load("cut"))[0])


def test_slice_prints_costs_and_accuracies(call: Here) -> None:
    result = call("slice", *NETWORK, "--target", "macs=0.5", "--out", "cut")
    assert result.code == 0, result.err
    assert "before" in result.out
    assert "compact" in result.out


FACTORY = """
from torch import nn

def make(num_classes=10, in_channels=1):
    return nn.Sequential(
        nn.Conv2d(in_channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_classes),
    )
"""


def test_a_network_from_a_file_is_evaluated_from_another_folder(call: Here, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(FACTORY)
    words = ("--model", "net.py:make", "--data", "digits", "--input-size", "1,8,8", "--epochs", 1)
    made = call("train", *words, "--drop", "0=0.5", "--drop", "3=0.25", "--out", "own", "--json")
    assert made.code == 0, made.err
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    result = command("eval", tmp_path / "own", "--json", cwd=elsewhere)
    assert result.code == 0, result.err
    assert result.json["top1"] == pytest.approx(made.json["top1"])
    widths = [tuple(p.shape[:2]) for p in artifact.load(tmp_path / "own").parameters() if p.ndim == 4]
    assert widths == [(8, 1), (12, 8)]


def test_eval_on_other_data_uses_the_models_own_normalisation(call: Here, run: Path, archive: str) -> None:
    preprocess = artifact.compact_info(run).preprocess
    other = data.load(archive)
    assert other.info.preprocess.mean != preprocess.mean
    with np.load(archive.removeprefix("npz:")) as arrays:
        pixels, labels = torch.from_numpy(arrays["x_test"]), torch.from_numpy(arrays["y_test"])
    inputs = (pixels.float() / 255 - preprocess.mean[0]) / preprocess.std[0]
    with torch.inference_mode():
        logits = artifact.load(run)(inputs)
    expected = torch.nn.functional.cross_entropy(logits, labels).item()
    own = (other.test_arrays(None)[0] - inputs).abs().max().item()
    assert own > 0.1

    result = call("eval", run, "--data", archive, "--json").json
    assert result["loss"] == pytest.approx(expected, rel=1e-4)
    assert result["data"] == archive
    path = call("export", run, "--json").json["path"]
    assert call("eval", path, "--data", archive, "--json").json["loss"] == pytest.approx(expected, rel=1e-4)
