"""Folders of images, with and without worker processes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from compress import data
from compress.core.errors import CompressError, Exit
from compress.data import ImageData

SIZE = (3, 24, 24)


def load(folder: Path, workers: int = 0) -> ImageData:
    return data.load(f"folder:{folder}", SIZE, workers=workers)


def test_the_record_describes_the_folder(image_folder: Path) -> None:
    info = load(image_folder).info
    assert (info.train_size, info.test_size, info.classes) == (14, 6, ("cat", "dog"))
    assert info.name == f"folder:{image_folder}"
    assert info.preprocess.resize == round(24 / 0.875)
    assert info.preprocess.mean == (0.485, 0.456, 0.406)


def test_default_input_size_is_that_of_imagenet(image_folder: Path) -> None:
    info = data.load(f"folder:{image_folder}", workers=0).info
    assert info.preprocess.input_size == (3, 224, 224)
    assert info.preprocess.resize == 256


def test_images_do_not_depend_on_workers_and_processes(image_folder: Path) -> None:
    alone = list(load(image_folder).train_batches(epoch=1, batch_size=4, seed=5))
    helped = list(load(image_folder, workers=2).train_batches(epoch=1, batch_size=4, seed=5))
    assert all(torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in zip(alone, helped, strict=True))
    halves = [
        list(load(image_folder).train_batches(epoch=1, batch_size=2, seed=5, rank=r, world=2)) for r in (0, 1)
    ]
    for (x, _), (a, _), (b, _) in zip(alone, *halves, strict=True):
        assert torch.equal(x, torch.stack([a, b], 1).flatten(0, 1))


def test_a_repeated_epoch_is_equal_and_does_not_use_the_global_generator(image_folder: Path) -> None:
    batches = load(image_folder).train_batches(epoch=0, batch_size=4, seed=0)
    before = torch.get_rng_state()
    first = list(batches)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(123)
    assert all(torch.equal(x, u) for (x, _), (u, _) in zip(first, batches, strict=True))
    other = list(load(image_folder).train_batches(epoch=1, batch_size=4, seed=0))
    assert not torch.equal(first[0][0], other[0][0])


def test_test_batches_of_all_processes_are_the_test_arrays(image_folder: Path) -> None:
    d = load(image_folder)
    parts = [b for rank in range(2) for b in d.test_batches(batch_size=2, rank=rank, world=2)]
    x, y = d.test_arrays(None)
    assert torch.equal(torch.cat([p for p, _ in parts]), x)
    assert y.tolist() == [0, 0, 0, 1, 1, 1]
    u, v = d.test_arrays(2, offset=3)
    assert torch.equal(u, x[3:5])
    assert v.tolist() == [1, 1]


def test_test_preprocessing_follows_the_record(image_folder: Path) -> None:
    d = load(image_folder)
    p = d.info.preprocess
    assert p.resize is not None
    with Image.open(image_folder / "val/cat/0.jpg") as image:  # 50 wide, 40 high
        wide = image.convert("RGB").resize((int(50 * p.resize / 40), p.resize), Image.Resampling.BILINEAR)
    left, top = round((wide.width - 24) / 2), round((wide.height - 24) / 2)
    crop = wide.crop((left, top, left + 24, top + 24))
    pixels = torch.frombuffer(bytearray(crop.tobytes()), dtype=torch.uint8).view(24, 24, 3).permute(2, 0, 1)
    mean, std = (torch.tensor(v)[:, None, None] for v in (p.mean, p.std))
    torch.testing.assert_close(d.test_arrays(1)[0][0], (pixels / 255 - mean) / std)


def test_calibration_samples_depend_on_the_seed(image_folder: Path) -> None:
    d = load(image_folder)
    assert d.train_samples(5, seed=1).shape == (5, *SIZE)
    assert torch.equal(d.train_samples(5, seed=1), d.train_samples(5, seed=1))
    assert d.train_samples(99, seed=1).shape[0] == 14


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_decoded_is_named(image_folder: Path, workers: int) -> None:
    broken = image_folder / "val/dog/1.png"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(CompressError, match=str(broken)) as caught:
        list(load(image_folder, workers).test_batches(batch_size=2))
    assert caught.value.exit is Exit.MISSING
    assert "Traceback" not in caught.value.message


def test_a_class_that_is_missing_from_one_part_is_named(image_folder: Path) -> None:
    (image_folder / "val/dog").rename(image_folder / "val/wolf")
    with pytest.raises(CompressError, match=r"only in .*train: dog; only in .*val: wolf"):
        load(image_folder)


def test_a_folder_named_test_is_accepted(image_folder: Path) -> None:
    (image_folder / "val").rename(image_folder / "test")
    assert load(image_folder).info.test_size == 6


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_missing_part_is_named(image_folder: Path, part: str) -> None:
    shutil.rmtree(image_folder / part)
    with pytest.raises(CompressError, match=f"has no {part} folder"):
        load(image_folder)


def test_an_empty_class_is_named(image_folder: Path) -> None:
    (image_folder / "train/bird").mkdir()
    with pytest.raises(CompressError, match="bird"):
        load(image_folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="nowhere' does not exist"):
        load(tmp_path / "nowhere")


def test_gray_input_is_refused(image_folder: Path) -> None:
    with pytest.raises(CompressError, match="read in color"):
        data.load(f"folder:{image_folder}", (1, 24, 24))


def test_the_fingerprint_depends_on_paths_and_sizes(image_folder: Path) -> None:
    first = load(image_folder).info.fingerprint
    moved = image_folder.with_name("moved")
    shutil.copytree(image_folder, moved)
    assert load(moved).info.fingerprint == first
    (moved / "train/cat/0.jpg").rename(moved / "train/cat/zero.jpg")
    assert load(moved).info.fingerprint != first


def test_a_moved_folder_gives_a_hint_to_the_data_option(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="does not exist") as caught:
        data.load(f"folder:{tmp_path}/moved")
    assert "if the images were moved, give their new place with --data folder:DIR" in caught.value.hint
    assert caught.value.code == "missing-file"
