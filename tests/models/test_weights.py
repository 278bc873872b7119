"""Weights from files: what is loaded, what is refused, and that an error leaves the model unchanged."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from compress import models
from compress.core.errors import CompressError, Exit

PRETRAINED = Path(__file__).parents[3] / "shared/data/weights/resnet56-4bfd9763.th"

State = dict[str, Tensor]


def state(seed: int = 1, classes: int = 10) -> State:
    torch.manual_seed(seed)
    return models.build("resnet20", classes).state_dict()


def same(model: nn.Module, expected: State) -> bool:
    own = model.state_dict()
    return all(torch.equal(own[k], v) for k, v in expected.items())


WRITERS: dict[str, Callable[[State, Path], None]] = {
    "plain.pth": lambda s, p: torch.save(s, p),
    "legacy.th": lambda s, p: torch.save(s, p, _use_new_zipfile_serialization=False),
    "state_dict.pt": lambda s, p: torch.save({"state_dict": s, "epoch": 3}, p),
    "model.pt": lambda s, p: torch.save({"model": s}, p),
    "prefixed.pt": lambda s, p: torch.save({f"module.{k}": v for k, v in s.items()}, p),
    "compiled.pt": lambda s, p: torch.save({f"module._orig_mod.{k}": v for k, v in s.items()}, p),
    "x.safetensors": lambda s, p: save_file(s, p),
}


@pytest.mark.parametrize("file", WRITERS)
def test_each_form_of_file_fills_the_model(file: str, tmp_path: Path) -> None:
    expected = state()
    WRITERS[file](expected, tmp_path / file)
    torch.manual_seed(2)
    assert same(models.build("resnet20", weights=tmp_path / file), expected)


def test_missing_batch_counters_are_accepted(tmp_path: Path) -> None:
    expected = {k: v for k, v in state().items() if not k.endswith("num_batches_tracked")}
    torch.save(expected, tmp_path / "old.pth")
    assert same(models.build("resnet20", weights=tmp_path / "old.pth"), expected)


@pytest.mark.skipif(not PRETRAINED.is_file(), reason="the published ResNet-56 weights are not at hand")
def test_published_resnet56_weights_load_by_name() -> None:
    expected = torch.load(PRETRAINED, map_location="cpu", weights_only=True)["state_dict"]
    model = models.build("resnet56", weights=PRETRAINED)
    assert same(model, {k.removeprefix("module."): v for k, v in expected.items()})


def refused(path: Path, classes: int = 10, reset_head: bool | None = None) -> CompressError:
    """Load `path` into a new resnet20, expecting an error that leaves it as it was."""
    torch.manual_seed(9)
    model = models.build("resnet20", classes)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(CompressError) as caught:
        models.load_weights(model, path, reset_head=reset_head)
    assert same(model, before)
    assert path.name in caught.value.message
    return caught.value


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.pth").exit is Exit.MISSING


def test_without_a_new_classifier_another_number_of_classes_names_both(tmp_path: Path) -> None:
    torch.save(state(classes=100), tmp_path / "w.pth")
    error = refused(tmp_path / "w.pth", reset_head=False)
    assert error.details == {"file_classes": 100, "model_classes": 10}
    assert "[100, 64]" in error.message
    assert "[10, 64]" in error.message
    assert "weights for 10 classes" in error.hint


def test_another_number_of_classes_keeps_the_models_classifier_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = state(classes=100)
    torch.save(given, tmp_path / "w.pth")
    model = models.build("resnet20", 10)
    classifier = model.get_parameter("linear.weight").clone()
    models.load_weights(model, tmp_path / "w.pth")
    assert torch.equal(model.get_parameter("linear.weight"), classifier)
    assert same(model, {k: v for k, v in given.items() if not k.startswith("linear.")})
    assert "the classifier 'linear' is not loaded; it starts from random weights" in caplog.text


@pytest.mark.parametrize("has_classifier", [True, False])
def test_reset_head_keeps_the_models_classifier(has_classifier: bool, tmp_path: Path) -> None:
    given = state()
    torch.save({k: v for k, v in given.items() if has_classifier or "linear" not in k}, tmp_path / "w.pth")
    model = models.build("resnet20", 10)
    classifier = model.get_parameter("linear.weight").clone()
    models.load_weights(model, tmp_path / "w.pth", reset_head=True)
    assert torch.equal(model.get_parameter("linear.weight"), classifier)
    assert not torch.equal(classifier, given["linear.weight"])
    assert torch.equal(model.get_parameter("conv1.weight"), given["conv1.weight"])


def test_a_file_without_a_classifier_gives_a_hint_to_reset_head(tmp_path: Path) -> None:
    torch.save({k: v for k, v in state().items() if "linear" not in k}, tmp_path / "w.pth")
    assert "--reset-head" in refused(tmp_path / "w.pth").hint


def test_reset_head_does_not_hide_another_mismatch(tmp_path: Path) -> None:
    wrong = state(classes=100)
    wrong["conv1.weight"] = torch.zeros(16, 3, 5, 5)
    torch.save(wrong, tmp_path / "w.pth")
    for reset_head in (True, None):
        assert "conv1.weight" in refused(tmp_path / "w.pth", reset_head=reset_head).message


def run_folder(path: Path, kept: dict[str, list[int]]) -> Path:
    """A run folder with what matters of it here."""
    compact = path / "compact"
    compact.mkdir(parents=True)
    (path / "run.json").write_text("{}")
    (compact / "model.json").write_text("{}")
    (compact / "plan.json").write_text(json.dumps({"kept": kept}))
    save_file(state(), compact / "weights.safetensors")
    return path


def test_the_run_of_a_dense_network_is_accepted_as_weights(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "dense", kept={})
    for path in (run, run / "compact"):
        assert same(models.build("resnet20", weights=path), state())


def test_the_run_of_a_compact_model_is_refused_as_weights(tmp_path: Path) -> None:
    error = refused(run_folder(tmp_path / "small", kept={"conv1": [0, 1]}))
    assert error.code == "compact-weights" and "--method dense" in error.hint


def test_an_unfinished_run_is_refused_as_weights(tmp_path: Path) -> None:
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "run.json").write_text("{}")
    error = refused(tmp_path / "begun")
    assert "has no weights yet" in error.message and "--resume" in error.hint
    (tmp_path / "other").mkdir()
    assert "is not a run" in refused(tmp_path / "other").message


def test_a_file_of_another_type_is_named_in_the_error(tmp_path: Path) -> None:
    picture = Image.new("RGB", (8, 8))
    picture.save(tmp_path / "a.jpg")
    picture.save(tmp_path / "a.png")
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("weights.pth", b"")
    (tmp_path / "a.pth").write_text("<!DOCTYPE html><title>404</title>")
    kinds = {
        "a.jpg": "a JPEG image",
        "a.png": "a PNG image",
        "a.npz": "a NumPy archive",
        "a.zip": "a zip archive",
        "a.pth": "an HTML page",
    }
    for name, kind in kinds.items():
        error = refused(tmp_path / name)
        assert f"is {kind}, not a weights file" in error.message
        assert ".safetensors" in error.hint and "torch.save" in error.hint


def test_a_safetensors_file_is_read_under_any_name(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "weights.bin")
    assert same(models.build("resnet20", weights=tmp_path / "weights.bin"), state())


def test_missing_and_unexpected_and_misshaped_names_are_counted_and_listed(tmp_path: Path) -> None:
    wrong = state()
    wrong["foreign.weight"] = wrong.pop("layer1.0.conv1.weight")
    wrong["conv1.weight"] = torch.zeros(16, 3, 5, 5)
    torch.save(wrong, tmp_path / "w.pth")
    error = refused(tmp_path / "w.pth")
    assert error.details == {"missing": 1, "unexpected": 1, "misshaped": 1}
    for part in ("layer1.0.conv1.weight", "foreign.weight", "conv1.weight [16, 3, 5, 5]"):
        assert part in error.message


@pytest.mark.parametrize("file", ["plain.pth", "legacy.th", "x.safetensors"])
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.7])
def test_a_truncated_file_is_reported_as_truncated(file: str, keep: float, tmp_path: Path) -> None:
    path = tmp_path / file
    WRITERS[file](state(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    assert "truncated" in refused(path).message


def test_a_file_that_needs_pickle_is_refused_without_running_it(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    assert refused(tmp_path / "module.pth").code == "weights-need-pickle"


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, torch.zeros(2)], ids=["list", "numbers", "tensor"])
def test_a_file_without_a_state_dict_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "odd.pth")
    assert refused(tmp_path / "odd.pth").code == "weights-unreadable"


def test_text_is_not_a_weights_file(tmp_path: Path) -> None:
    (tmp_path / "notes.pth").write_text("these are not weights\n" * 20)
    assert refused(tmp_path / "notes.pth").code == "weights-unreadable"


def test_tensors_of_a_head_that_is_switched_off_are_ignored(tmp_path: Path) -> None:
    import torchvision

    full = torchvision.models.googlenet(weights=None, num_classes=4, aux_logits=True, init_weights=False)
    torch.save(full.state_dict(), tmp_path / "g.pth")
    model = models.build("torchvision/googlenet", 4, (3, 64, 64), weights=tmp_path / "g.pth")
    assert torch.equal(model.get_parameter("fc.weight"), full.fc.weight)
