"""Data sets that the package ``datasets`` reads: local ones, so that no network is needed."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compress import data
from compress.core.errors import CompressError, Exit
from compress.data import ImageData


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)  # Python's own way to say: not importable
    with pytest.raises(CompressError) as caught:
        data.load("hf:anyone/anything")
    assert caught.value.exit is Exit.MISSING
    assert caught.value.hint == "pip install 'compress-cnn[hf]'"


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def call(folder: Path, size: tuple[int, int, int] | None = None) -> ImageData:
        return data.load(f"hf:{folder}", size, root=tmp_path / "cache", workers=0)

    return call


def test_images_of_several_sizes_equal_those_of_a_folder(load: object, image_folder: Path) -> None:
    for path in image_folder.rglob("*.*"):
        with Image.open(path) as image:
            image.resize((image.width * 2, image.height * 2)).save(path)
    assert callable(load)
    ours = load(image_folder, (3, 24, 24))
    theirs = data.load(f"folder:{image_folder}", (3, 24, 24), workers=0)
    assert ours.info.classes == theirs.info.classes
    assert ours.info.preprocess == theirs.info.preprocess
    x, y = ours.test_arrays()
    u, v = theirs.test_arrays()
    ranks = [sorted(range(6), key=lambda i: (int(b[i]), float(a[i].sum()))) for a, b in ((x, y), (u, v))]
    assert torch.equal(x[ranks[0]], u[ranks[1]])


def small(folder: Path, mode: str) -> Path:
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for word in ("a", "b"):
            (folder / part / word).mkdir(parents=True)
            for i in range(4):
                pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).convert(mode).save(folder / part / word / f"{i}.png")
    return folder


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1)])
def test_small_images_of_one_size_are_held_in_memory(
    load: object, tmp_path: Path, mode: str, channels: int
) -> None:
    assert callable(load)
    d = load(small(tmp_path / "small", mode))
    assert d.info.preprocess.input_size == (channels, 16, 16)
    assert ("flip" in d.info.augmentation) == (channels == 3)
    assert (d.info.train_size, d.info.test_size) == (8, 8)


def test_without_labels_in_the_test_split_validation_is_used(load: object, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    folder = tmp_path / "parquet"
    folder.mkdir()
    png = io.BytesIO()
    Image.new("L", (16, 16), 9).save(png, "PNG")
    cell = {"bytes": png.getvalue(), "path": None}
    for split, labels in (("train", [0, 1, 0]), ("test", [-1, -1]), ("validation", [1])):
        rows = {"image": [cell] * len(labels), "label": labels}
        parquet.write_table(pyarrow.table(rows, features.arrow_schema), folder / f"{split}.parquet")
    assert callable(load)
    d = load(folder)
    assert d.info.classes == ("a", "b")
    assert d.test_arrays()[1].tolist() == [1]


def test_a_name_that_cannot_be_loaded_gives_the_reason(load: object, tmp_path: Path) -> None:
    assert callable(load)
    with pytest.raises(CompressError, match="cannot be loaded") as caught:
        load(tmp_path / "nothing-here")
    assert caught.value.exit is Exit.MISSING
