"""NPZ archives: accepted layouts and reported errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_arrays import SaveNpz, arrays

from compress import data
from compress.core.errors import CompressError, Exit


def medmnist(**options: Any) -> dict[str, Any]:
    plain = arrays(**options)
    return {
        "train_images": plain["x_train"],
        "train_labels": plain["y_train"][:, None],
        "val_images": plain["x_train"][:5],
        "val_labels": plain["y_train"][:5, None],
        "test_images": plain["x_test"],
        "test_labels": plain["y_test"][:, None],
    }


def test_medmnist_names_and_column_labels_load_the_same_data(save_npz: SaveNpz) -> None:
    plain = data.load(save_npz(**arrays()))
    expected = plain.test_arrays()
    x, y = data.load(save_npz(**medmnist())).test_arrays()
    assert torch.equal(x, expected[0])
    assert torch.equal(y, expected[1])


def test_medmnist_validation_is_used_if_there_is_no_test_part(save_npz: SaveNpz) -> None:
    content = medmnist()
    del content["test_images"], content["test_labels"]
    assert data.load(save_npz(**content)).info.test_size == 5


def test_channels_first_and_last_are_the_same_data(save_npz: SaveNpz) -> None:
    content = arrays()
    last = data.load(save_npz(**content))
    for key in ("x_train", "x_test"):
        content[key] = content[key].transpose(0, 3, 1, 2)
    first = data.load(save_npz(**content))
    assert first.info == last.info
    assert torch.equal(first.test_arrays()[0], last.test_arrays()[0])


@pytest.mark.parametrize("shape", [(24, 24), (24, 24, 1), (1, 24, 24)])
def test_gray_images_are_cropped_but_not_flipped(save_npz: SaveNpz, shape: tuple[int, ...]) -> None:
    info = data.load(save_npz(**arrays(shape=shape))).info
    assert info.preprocess.input_size == (1, 24, 24)
    assert info.preprocess.color == "L"
    assert info.augmentation == "random crop (pad 3)"


def test_class_names_are_read(save_npz: SaveNpz) -> None:
    info = data.load(save_npz(**arrays(), classes=np.array(["a", "b", "c", "d", "e"]))).info
    assert info.classes == ("a", "b", "c", "d", "e")


def test_a_label_without_images_gives_a_warning(save_npz: SaveNpz, caplog: pytest.LogCaptureFixture) -> None:
    content = arrays()
    content["y_train"][content["y_train"] == 2] = 1
    assert data.load(save_npz(**content)).info.num_classes == 4
    assert "no training image has the label 2" in caplog.text


def test_the_name_is_recorded_with_the_whole_path(save_npz: SaveNpz, monkeypatch: pytest.MonkeyPatch) -> None:
    name = save_npz(**arrays())
    monkeypatch.chdir(Path(name.removeprefix("npz:")).parent)
    assert data.load("npz:images.npz").info.name == name


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "float pixels": ({"x_train": np.zeros((50, 16, 16, 3), np.float32)}, "x_train is float32, not uint8"),
    "four channels": ({"x_test": np.zeros((23, 16, 16, 4), np.uint8)}, r"x_test is \[23, 16, 16, 4\]"),
    "flat images": ({"x_train": np.zeros((50, 768), np.uint8)}, r"x_train is \[50, 768\]"),
    "other test size": ({"x_test": np.zeros((23, 8, 8, 3), np.uint8)}, r"but x_test is \[23, 8, 8, 3\]"),
    "no images": ({"x_test": np.zeros((0, 16, 16, 3), np.uint8)}, "x_test is empty"),
    "too few labels": ({"y_train": np.zeros(49, int)}, r"y_train is \[49\] for 50 images"),
    "many labels": ({"y_train": np.zeros((50, 14), int)}, r"y_train is \[50, 14\] for 50 images"),
    "float labels": ({"y_test": np.zeros(23)}, "y_test is float64, not an integer"),
    "negative label": ({"y_test": np.full(23, -1)}, "y_test has the label -1"),
    "unseen label": ({"y_test": np.full(23, 9)}, "label 9, but the largest in y_train is 3"),
    "too few names": ({"classes": np.array(["a", "b"])}, "a label is 3, but 'classes' has 2"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_array_is_named_with_its_shape_or_value(save_npz: SaveNpz, fault: str) -> None:
    change, words = FAULTS[fault]
    with pytest.raises(CompressError, match=words) as caught:
        data.load(save_npz(**{**arrays(), **change}))
    assert caught.value.code == "data-format"
    assert caught.value.hint


def test_missing_keys_give_the_present_ones(save_npz: SaveNpz) -> None:
    content = arrays()
    content["labels"] = content.pop("y_test")
    with pytest.raises(CompressError, match="keys labels, x_test, x_train, y_train") as caught:
        data.load(save_npz(**content))
    assert "y_test" in caught.value.hint


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.99])
def test_a_truncated_archive_is_reported_as_truncated(save_npz: SaveNpz, keep: float) -> None:
    name = save_npz(**arrays())
    path = Path(name.removeprefix("npz:"))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(CompressError, match="truncated") as caught:
        data.load(name)
    assert caught.value.code == "data-unreadable"


def test_damaged_pixels_are_detected(save_npz: SaveNpz) -> None:
    name = save_npz(**arrays())
    path = Path(name.removeprefix("npz:"))
    whole = bytearray(path.read_bytes())
    whole[2000] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(CompressError, match="CRC"):
        data.load(name)


def test_object_arrays_are_refused_unpickled(save_npz: SaveNpz) -> None:
    with pytest.raises(CompressError, match=r"not an \.npz archive of plain arrays"):
        data.load(save_npz(**{**arrays(), "y_test": np.array([{}] * 23, dtype=object)}))


def test_a_single_array_is_not_an_archive(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(CompressError, match=r"not an \.npz archive"):
        data.load(f"npz:{tmp_path}/x.npy")


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match=r"none\.npz") as caught:
        data.load(f"npz:{tmp_path}/none.npz")
    assert caught.value.exit is Exit.MISSING
