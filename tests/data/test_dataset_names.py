"""Names of data sets and suggestions for unknown ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress import data
from compress.core.errors import CompressError


def test_all_data_sets_are_listed() -> None:
    assert data.list_datasets() == ["cifar10", "cifar100", "digits", "folder:DIR", "hf:NAME", "npz:FILE"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("cifar11", "cifar10"),
        ("Digit", "digits"),
        ("images.npz", "npz:images.npz"),
        ("npz", "write npz:FILE"),
        ("folder:", "write folder:DIR"),
        ("digits:8", "write digits"),
    ],
)
def test_a_wrong_name_gives_a_hint_to_the_right_one(name: str, hint: str) -> None:
    with pytest.raises(CompressError) as caught:
        data.load(name)
    assert caught.value.code == "unknown-data"
    assert repr(name) in caught.value.message
    assert hint in caught.value.hint


def test_the_path_of_a_folder_is_recognized(tmp_path: Path) -> None:
    with pytest.raises(CompressError) as caught:
        data.load(str(tmp_path))
    assert f"folder:{tmp_path}" in caught.value.hint


def test_an_invalid_input_size_is_refused() -> None:
    with pytest.raises(CompressError, match="input size"):
        data.load("digits", (1, 0, 32))
