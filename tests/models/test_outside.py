"""Networks of torchvision and timm, and from a user's file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from compress import models
from compress.core.errors import CompressError, Exit
from compress.core.spec import ModelSpec


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "shufflenet_v2_x0_5", "mobilenet_v3_small"])
def test_a_torchvision_network_gives_one_tensor_in_training_mode_too(name: str) -> None:
    model = models.build(f"torchvision/{name}", 6, (3, 64, 64))
    out = model(torch.randn(2, 3, 64, 64))
    assert isinstance(out, torch.Tensor)
    assert out.shape == (2, 6)


def test_torchvision_refuses_gray_images_with_a_hint() -> None:
    with pytest.raises(CompressError, match="3 channels, not 1") as caught:
        models.build("torchvision/resnet18", 10, (1, 64, 64))
    assert "3,64,64" in caught.value.hint


@pytest.mark.parametrize("name", ["torchvision/resnet81", "torchvision/fcn_resnet50"])
def test_an_unknown_torchvision_name_or_one_that_does_not_classify_is_refused(name: str) -> None:
    with pytest.raises(CompressError) as caught:
        models.model_spec(name)
    assert caught.value.code == "unknown-model"
    assert "resnet" in caught.value.hint


def test_a_timm_network_takes_other_channels() -> None:
    pytest.importorskip("timm")
    model = models.build("timm/resnet10t", 6, (1, 64, 64)).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 1, 64, 64)).shape == (1, 6)


def test_an_unknown_timm_name_gets_near_matches() -> None:
    pytest.importorskip("timm")
    with pytest.raises(CompressError) as caught:
        models.build("timm/resnet10x")
    assert "resnet10t" in caught.value.hint


def test_without_timm_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # makes the import fail
    with pytest.raises(CompressError) as caught:
        models.build("timm/resnet18")
    assert caught.value.exit is Exit.MISSING
    assert caught.value.hint == "pip install 'compress-cnn[timm]'"


MODEL_FILE = """
from __future__ import annotations
from dataclasses import dataclass
from torch import nn
from {helper} import WIDTH

@dataclass
class Settings:
    width: int = WIDTH

class Net(nn.Sequential):
    pass

def tiny(num_classes, in_channels=3):
    w = Settings().width
    return Net(nn.Conv2d(in_channels, w, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(w, num_classes))

def through(**kwargs):
    return tiny(**kwargs)

def fixed():
    return tiny(4)

def number(num_classes):
    return num_classes

def broken(num_classes):
    raise KeyError("no such thing")

def leaves():
    raise SystemExit(3)
"""


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    helper = f"neighbour_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{helper}.py").write_text("WIDTH = 12\n")
    path = tmp_path / "net.py"
    path.write_text(MODEL_FILE.format(helper=helper))
    return path


@pytest.mark.parametrize(("factory", "classes"), [("tiny", 5), ("through", 5), ("fixed", 4)])
def test_a_factory_gets_the_arguments_it_accepts(model_file: Path, factory: str, classes: int) -> None:
    path = list(sys.path)
    model = models.build(f"{model_file}:{factory}", 5, (3, 8, 8))
    assert model(torch.randn(2, 3, 8, 8)).shape == (2, classes)
    assert sys.path == path


def test_a_factory_gets_the_channels_if_it_accepts_them(model_file: Path) -> None:
    model = models.build(f"{model_file}:tiny", 5, (1, 8, 8))
    assert model(torch.randn(2, 1, 8, 8)).shape == (2, 5)


def test_building_twice_gives_the_same_class(model_file: Path) -> None:
    first, second = (models.build(f"{model_file}:fixed") for _ in range(2))
    assert type(first) is type(second)


def test_modules_of_the_same_name_in_two_folders_are_not_confused(tmp_path: Path) -> None:
    names = []
    for width in (3, 7):
        folder = tmp_path / str(width)
        folder.mkdir()
        (folder / "same_name.py").write_text(f"WIDTH = {width}\n")
        (folder / "net.py").write_text(
            "from torch import nn\nfrom same_name import WIDTH\ndef net(): return nn.Linear(WIDTH, 2)\n"
        )
        names.append(f"{folder}/net.py:net")
    widths = [models.build(name).get_parameter("weight").shape[1] for name in [*names, *names]]
    assert widths == [3, 7, 3, 7]


def test_a_relative_path_is_stored_absolute(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model_file.parent)
    record = models.model_spec("net.py:tiny", 5, (3, 8, 8))
    assert record.name == f"{model_file}:tiny"
    monkeypatch.chdir("/")
    assert models.build_from_spec(ModelSpec.model_validate_json(record.model_dump_json()))


def test_a_changed_file_is_detected(model_file: Path) -> None:
    record = models.model_spec(f"{model_file}:tiny", 5, (3, 8, 8))
    model_file.write_text(model_file.read_text() + "\n# changed\n")
    with pytest.raises(CompressError, match="has changed") as caught:
        models.build_from_spec(record)
    assert caught.value.code == "model-changed"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match=r"none\.py") as caught:
        models.model_spec(f"{tmp_path}/none.py:net")
    assert caught.value.exit is Exit.MISSING


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("tinny", "Did you mean tiny"),
        ("", "does not name a factory"),
        ("number", "returned a int"),
        ("broken", "KeyError"),
        ("leaves", "SystemExit"),
    ],
)
def test_a_failing_factory_gives_the_reason(model_file: Path, factory: str, words: str) -> None:
    with pytest.raises(CompressError) as caught:
        models.build(f"{model_file}:{factory}" if factory else str(model_file), 5, (3, 8, 8))
    assert words in str(caught.value)
    assert str(model_file) in str(caught.value)


def test_a_file_that_cannot_be_imported_gives_the_reason_and_can_be_fixed(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text("import a_package_that_is_not_there\n")
    with pytest.raises(CompressError, match="a_package_that_is_not_there"):
        models.build(f"{path}:net")
    path.write_text("from torch import nn\ndef net(): return nn.Identity()\n")
    assert models.build(f"{path}:net")
