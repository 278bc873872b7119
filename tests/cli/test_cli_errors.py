"""User errors: exit code, one line, a hint, the JSON form, and no half-written file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_calls import NETWORK, TRAIN, Here, Outcome, content

from compress import artifact

GRAY = np.zeros((30, 1, 8, 8), dtype=np.uint8)
LABELS = np.arange(30) % 3


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Write data sets, recipes and models with errors; return their folder."""
    np.savez(tmp_path / "three.npz", x_train=GRAY, y_train=LABELS, x_test=GRAY, y_test=LABELS)
    np.savez(tmp_path / "shapes.npz", x_train=GRAY, y_train=LABELS, x_test=GRAY[..., :7], y_test=LABELS)
    np.savez(tmp_path / "labels.npz", x_train=GRAY, y_train=LABELS, x_test=GRAY, y_test=LABELS + 5)
    rgb = np.zeros((30, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "rgb.npz", x_train=rgb, y_train=LABELS, x_test=rgb, y_test=LABELS)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "three.npz").read_bytes()[:2000])
    (tmp_path / "bad.toml").write_text("epochs = 3")
    (tmp_path / "net.py").write_text("def make():\n    raise ValueError('no\\nway')\n")
    (tmp_path / "bad.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    return tmp_path


Fails = Callable[..., dict[str, Any]]


@pytest.fixture
def fails(call: Here, tmp_path: Path) -> Fails:
    """Check both forms of an error and that no file appeared or changed; return its JSON object."""

    def check(words: list[str], exit_code: int, code: str) -> dict[str, Any]:
        before = content(tmp_path)
        human, machine = call(*words), call(*words, "--json")
        assert (machine.code, machine.err) == (exit_code, ""), machine
        error: dict[str, Any] = machine.json["error"]
        assert error["code"] == code, error
        lines = [f"error: {error['message']}", *([f"hint: {error['hint']}"] if error["hint"] else [])]
        assert human == Outcome(exit_code, "", "\n".join(lines) + "\n")
        assert content(tmp_path) == before
        return error

    return check


@pytest.mark.parametrize(
    ("flags", "exit_code", "code", "message", "hint"),
    [
        ("--model vgg_smal", 2, "unknown-model", "'vgg_smal'", "Did you mean vgg_small?"),
        ("--model resnet50", 2, "unknown-model", "'resnet50'", "Did you mean torchvision/resnet50?"),
        ("--model net.py:mak", 2, "unknown-model", "'mak'", "Did you mean make?"),
        ("--model net.py:make", 2, "model-failed", "ValueError: no way", "fix the file"),
        ("--model gone.py:make", 3, "missing-file", "'gone.py'", "looked for"),
        ("--data digts", 2, "unknown-data", "'digts'", "Did you mean digits?"),
        ("--data three.npz", 2, "unknown-data", "'three.npz'", "Did you mean npz:three.npz?"),
        ("--data npz:gone.npz", 3, "missing-file", "gone.npz", "check the path"),
        ("--data npz:cut.npz", 3, "data-unreadable", "cut.npz is truncated", "numpy.savez"),
        ("--data npz:shapes.npz", 2, "data-format", "[30, 1, 8, 8] but x_test is [30, 1, 8, 7]", "x_train"),
        ("--data npz:labels.npz", 2, "data-format", "y_test has the label 7", "same classes"),
        ("--data npz:rgb.npz", 2, "input-size", "3 channels", "--input-size 3,H,W"),
        ("--data folder:gone", 3, "missing-file", "gone", "--data folder:DIR"),
        ("--method dcf", 2, "unknown-method", "'dcf'", "Did you mean dcff, kdfs?"),
        ("--recipe dcff-resnet5", 2, "unknown-recipe", "'dcff-resnet5'", "dcff-resnet56-cifar10"),
        ("--recipe gone.toml", 3, "missing-file", "'gone.toml'", "dcff-vgg16-cifar10"),
        ("--recipe bad.toml", 2, "bad-recipe", "'epochs'", "train"),
        ("--weights gone.pt", 3, "missing-file", "'gone.pt'", "check the path"),
        ("--num-classes 5", 2, "class-count", "5 classes, 'digits' has 10", "leave out --num-classes"),
        ("--input-size 3x4", 2, "input-size", "'3x4'", "3,32,32"),
        ("--input-size 1,2,2", 2, "input-size", "not 2x2", "at least 4"),
        ("--target macs=0", 2, "bad-target", "'macs=0'", "macs=0.5"),
        ("--target macs=-0.5", 2, "bad-target", "'macs=-0.5'", "macs=0.5"),
        ("--target macs=half", 2, "bad-target", "'macs=half'", "macs=0.5"),
        ("--target flops=0.5", 2, "bad-target", "'flops=0.5'", "macs=0.5"),
        ("--target macs=900G", 2, "target-range", "more than the dense network", "smaller number"),
        ("--align odd", 2, "bad-align", "'odd'", "auto, none"),
        ("--drop x", 2, "bad-drop", "'x'", "LAYER=RATE"),
        ("--drop features.0=0.5", 2, "two-targets", "both a target (macs=0.5) and", "give one"),
        ("--set foo", 2, "bad-setting", "'foo'", "KEY=VALUE"),
        ("--set foo=1", 2, "bad-setting", "'foo'", "known"),
        ("--epochs 0", 2, "bad-setting", "'epochs'", ""),
        ("--lr nan", 2, "bad-setting", "'lr'", ""),
        ("--optimizer sdg", 2, "bad-setting", "'sdg'", ""),
        ("--warmup-epochs 20", 2, "bad-setting", "less than epochs 10", ""),
        ("--precision fp8", 2, "bad-setting", "'fp8'", ""),
        ("--workers -1", 2, "usage", "'--workers'", "--help"),
        ("--resume", 3, "nothing-to-resume", "new", "without --resume"),
    ],
)
def test_training_refuses_invalid_arguments(
    fails: Fails, files: Path, flags: str, exit_code: int, code: str, message: str, hint: str
) -> None:
    error = fails([*TRAIN, "--out", "new", *flags.split()], exit_code, code)
    assert message in error["message"]
    assert hint in error["hint"]
    assert not (files / "new").exists()


def test_damaged_weights_to_start_from_are_named(fails: Fails, files: Path) -> None:
    error = fails([*TRAIN, "--out", "new", "--weights", "bad.safetensors"], 3, "weights-unreadable")
    assert "bad.safetensors" in error["message"]


@pytest.mark.parametrize("kind", ["macs", "params"])
@pytest.mark.parametrize("command", ["train", "slice"])
def test_an_unreachable_target_names_the_smallest_that_can_be_reached(
    fails: Fails, call: Here, command: str, kind: str
) -> None:
    words = [command, *NETWORK, "--out", "new"]
    error = fails([*words, "--target", f"{kind}=0.00001"], 2, "target-unreachable")
    smallest = error["details"]["smallest"]
    assert 0 < smallest < 0.1
    named = f"{kind}={smallest:.4f}"[:-1]
    assert named in error["message"] + error["hint"]


@pytest.mark.parametrize("words", [["train"], ["train", "--target", "macs=0.5"]])
def test_a_missing_target_or_model_is_named(fails: Fails, words: list[str]) -> None:
    error = fails(words, 2, "no-target" if len(words) == 1 else "no-model")
    assert "give --" in error["hint"]


@pytest.mark.parametrize("command", ["eval", "export", "bench"])
def test_a_missing_run_is_named(fails: Fails, command: str) -> None:
    error = fails([command, "gone"], 3, "missing-file")
    assert "gone" in error["message"]
    assert "compress train" in error["hint"]


@pytest.mark.parametrize("command", ["eval", "export", "bench"])
def test_a_folder_that_is_no_run_is_refused(fails: Fails, command: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty" in fails([command, "empty"], 3, "missing-file")["message"]


def rewrite(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    "words", [["eval"], ["export"], ["bench"], [*TRAIN, "--epochs", "3", "--resume", "--out"]]
)
def test_a_run_of_another_version_is_refused(fails: Fails, run: Path, words: list[str]) -> None:
    for name in ("run.json", "compact/model.json"):
        rewrite(run / name, schema_version=99)
    error = fails([*words, str(run)], 2, "schema-version")
    assert "99" in error["message"]
    assert "version of compress" in error["hint"]


def test_a_truncated_checkpoint_is_refused_with_a_remedy(fails: Fails, run: Path) -> None:
    path = run / "checkpoints" / "last.pt"
    path.write_bytes(path.read_bytes()[:-1000])
    words = [*TRAIN, "--epochs", "3", "--resume", "--out", str(run)]
    error = fails(words, 3, "damaged-file")
    assert "last.pt' is truncated or damaged" in error["message"]
    assert "best.pt" in error["hint"]


@pytest.mark.parametrize("command", ["eval", "export", "bench"])
def test_truncated_weights_are_refused(fails: Fails, run: Path, command: str) -> None:
    path = run / "compact" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "weights.safetensors" in fails([command, str(run)], 3, "damaged-file")["message"]


def test_weights_of_another_model_are_refused(fails: Fails, run: Path) -> None:
    path = run / "compact" / "weights.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    assert "SHA-256" in fails(["eval", str(run)], 3, "damaged-file")["message"]


def test_an_unfinished_run_is_refused_with_a_hint_to_resume(fails: Fails, run: Path) -> None:
    for path in (run / "compact").iterdir():
        path.unlink()
    (run / "compact").rmdir()
    assert "--resume" in fails(["eval", str(run)], 3, "missing-file")["hint"]


@pytest.mark.parametrize(
    ("words", "exit_code", "code", "message"),
    [
        ("eval RUN --data npz:three.npz", 2, "class-count", "has 10 classes"),
        ("eval RUN --data npz:rgb.npz", 2, "input-size", "3 channels"),
        ("eval RUN --data digts", 2, "unknown-data", "digts"),
        ("eval RUN --device tpu", 2, "unknown-device", "'tpu'"),
        ("eval bad.onnx --data digits", 3, "bad-onnx", "bad.onnx"),
        ("eval gone.onnx --data digits", 3, "missing-file", "'gone.onnx'"),
        ("eval bad.onnx", 2, "no-data", "no data"),
        ("eval gone.onnx", 3, "missing-file", "'gone.onnx'"),
        ("eval three.npz", 2, "wrong-kind", "a .npz file"),
        ("export RUN --batch 0", 2, "bad-batch", "at least 1, not 0"),
        ("export RUN --batch -1", 2, "bad-batch", "at least 1, not -1"),
        ("export RUN --batch dynamik", 2, "bad-batch", "'dynamik'"),
        ("export RUN --opset 5", 4, "opset", "opset 5"),
        ("export RUN --opset 999", 4, "opset", "opset 999"),
        ("export RUN --opset x", 2, "usage", "--opset"),
        ("export RUN --format onx", 2, "unknown-format", "'onx'"),
        ("export RUN --data npz:three.npz", 2, "class-count", "3 classes"),
        ("bench RUN --batch 0", 2, "bad-option", "[0]"),
        ("bench RUN --batch 1,,2", 2, "bad-option", "'1,,2'"),
        ("bench RUN --pairs 3", 2, "usage", "--pairs"),
        ("bench RUN --backend ort", 2, "unknown-backend", "'ort'"),
        ("bench RUN --backend ort-cpu,", 2, "bad-option", "'ort-cpu,'"),
        ("bench RUN --cuda-graph", 2, "bad-option", "cuda graph"),
        ("bench RUN --backend torch --transfers", 2, "bad-option", "no transfers"),
        ("bench RUN --backend torch --device tpu", 2, "unknown-device", "'tpu'"),
        ("bench RUN RUN", 2, "bad-option", "given twice"),
        ("bench bad.onnx", 2, "nothing-to-compare", "bad.onnx"),
        ("bench RUN bad.onnx", 3, "bad-onnx", "bad.onnx"),
        ("bench RUN bad.onnx --backend torch", 2, "wrong-kind", "'torch' does not read a .onnx file"),
        ("bench RUN gone.onnx", 3, "missing-file", "gone.onnx"),
        ("eval RUN --backend ort", 2, "unknown-backend", "'ort'"),
        ("eval bad.onnx --data digits --backend torch", 2, "wrong-kind", "bad.onnx"),
        ("eval gone.xml --data digits", 3, "missing-file", "'gone.xml'"),
        (
            "slice --model vgg_small --data digits --target macs=0.5 --out new --criterion l3",
            2,
            "unknown-criterion",
            "'l3'",
        ),
    ],
)
def test_invalid_arguments_of_other_commands_are_refused(
    fails: Fails, files: Path, run: Path, words: str, exit_code: int, code: str, message: str
) -> None:
    error = fails([str(run) if word == "RUN" else word for word in words.split()], exit_code, code)
    assert message in error["message"]
    assert error["hint"]


def test_a_second_writer_is_refused(fails: Fails, run: Path) -> None:
    with artifact.RunFolder.open(run, write=True):
        error = fails(["export", str(run)], 2, "locked")
    assert str(run) in error["message"]
