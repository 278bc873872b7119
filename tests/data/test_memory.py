"""In-memory sets: determinism, augmentation and preprocessing, on real arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from image_arrays import SaveNpz, arrays
from torch import Tensor

from compress import data
from compress.core.errors import CompressError
from compress.data import Batch, Batches, ImageData
from compress.data.augment import Augmentation
from compress.data.order import generator


def equal(a: Batches, b: Batches) -> bool:
    pairs = list(zip(a, b, strict=True))
    return all(torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in pairs)


def epoch(d: ImageData, number: int = 0, *, seed: int = 0, rank: int = 0, world: int = 1) -> Batches:
    return d.train_batches(epoch=number, batch_size=8, seed=seed, rank=rank, world=world)


def pixels(d: ImageData, batch: Tensor) -> Tensor:
    """Undo the normalization and return uint8 images."""
    p = d.info.preprocess
    mean, std = (torch.tensor(v)[:, None, None] for v in (p.mean, p.std))
    return ((batch * std + mean) * 255).round().to(torch.uint8)


@pytest.fixture
def images(save_npz: SaveNpz) -> ImageData:
    return data.load(save_npz(**arrays()))


def test_a_repeated_epoch_is_bitwise_equal(images: ImageData) -> None:
    batches = epoch(images, 3)
    assert equal(batches, batches)
    assert equal(batches, epoch(images, 3))


def test_an_epoch_neither_reads_nor_changes_the_global_generator(images: ImageData) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = list(epoch(images))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert all(torch.equal(x, u) for (x, _), (u, _) in zip(first, epoch(images), strict=True))


@pytest.mark.parametrize("change", [{"number": 1}, {"seed": 1}])
def test_another_epoch_or_seed_gives_another_order(images: ImageData, change: dict[str, int]) -> None:
    assert not equal(epoch(images), epoch(images, **change))


def test_processes_draw_different_crops(save_npz: SaveNpz) -> None:
    same = arrays()
    same["x_train"][:] = same["x_train"][0]
    d = data.load(save_npz(**same))
    (x, _), *_ = epoch(d, rank=0, world=2)
    (u, _), *_ = epoch(d, rank=1, world=2)
    assert not torch.equal(x, u)


def test_the_last_incomplete_training_batch_is_dropped(images: ImageData) -> None:
    batches = epoch(images)
    assert len(batches) == len(list(batches)) == 50 // 8
    assert {len(y) for _, y in batches} == {8}


def test_each_training_image_is_a_crop_of_its_padded_original_flipped_or_not(images: ImageData) -> None:
    content = arrays()
    original = torch.from_numpy(content["x_train"]).permute(0, 3, 1, 2)
    padded = F.pad(original, (2, 2, 2, 2))  # 16 // 8
    results: set[tuple[int, int, int, bool]] = set()
    for x, y in epoch(images):
        for image, label in zip(pixels(images, x), y, strict=True):
            places = [
                (n, top, left, mirrored)
                for n in range(len(padded))
                for top in range(5)
                for left in range(5)
                for mirrored in (False, True)
                if torch.equal(
                    image.flip(2) if mirrored else image, padded[n, :, top : top + 16, left : left + 16]
                )
            ]
            assert len(places) == 1
            assert content["y_train"][places[0][0]] == label
            results.add(places[0])
    assert len({n for n, *_ in results}) == 48
    assert {mirrored for *_, mirrored in results} == {False, True}
    assert len({(top, left) for _, top, left, _ in results}) > 10


def test_all_crops_are_equally_likely() -> None:
    draws = Augmentation(pad=1, flip=True).draw(9000, generator("test"))
    counts = torch.bincount(draws.top * 3 + draws.left, minlength=9)
    assert counts.min() > 850
    assert counts.max() < 1150
    assert 4300 < int(draws.flipped.sum()) < 4700


def test_no_padding_and_no_flip_leaves_images_unchanged() -> None:
    x = torch.randint(0, 256, (4, 3, 5, 5), dtype=torch.uint8)
    draws = Augmentation(pad=0, flip=False).draw(4, generator("test"))
    assert torch.equal(draws.apply(x, slice(0, 4)), x)


def test_preprocessing_follows_the_record(images: ImageData) -> None:
    p = images.info.preprocess
    x, y = images.test_arrays()
    raw = torch.from_numpy(arrays()["x_test"]).permute(0, 3, 1, 2).double() / 255
    mean, std = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (p.mean, p.std))
    torch.testing.assert_close(x.double(), (raw - mean) / std, atol=1e-5, rtol=1e-5)
    assert y.tolist() == arrays()["y_test"].tolist()
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)


def test_mean_and_std_are_those_of_the_training_images(images: ImageData) -> None:
    raw = arrays()["x_train"] / 255
    assert images.info.preprocess.mean == pytest.approx(raw.mean((0, 1, 2)), abs=6e-5)
    assert images.info.preprocess.std == pytest.approx(raw.std((0, 1, 2)), abs=6e-5)


def test_test_arrays_are_the_requested_part(images: ImageData) -> None:
    whole: Batch = images.test_arrays(None)
    x, y = images.test_arrays(5, offset=20)
    assert len(x) == 3
    assert torch.equal(x, whole[0][20:])
    assert torch.equal(y, whole[1][20:])


def test_test_batches_of_all_processes_are_the_test_arrays(images: ImageData) -> None:
    parts = [b for rank in range(3) for b in images.test_batches(batch_size=4, rank=rank, world=3)]
    whole = images.test_arrays(None)
    assert torch.equal(torch.cat([x for x, _ in parts]), whole[0])
    assert torch.equal(torch.cat([y for _, y in parts]), whole[1])


def test_calibration_samples_are_training_images_without_augmentation(images: ImageData) -> None:
    samples = pixels(images, images.train_samples(6, seed=1))
    original = torch.from_numpy(arrays()["x_train"]).permute(0, 3, 1, 2)
    where = [int((original == s).flatten(1).all(1).nonzero()) for s in samples]
    assert len(set(where)) == 6
    assert torch.equal(images.train_samples(6, seed=1), images.train_samples(6, seed=1))


def test_a_larger_input_size_enlarges_and_is_recorded(save_npz: SaveNpz) -> None:
    d = data.load(save_npz(**arrays()), (3, 32, 32))
    assert d.info.preprocess.resize == 32
    x, _ = d.test_arrays(4)
    raw = torch.from_numpy(arrays()["x_test"][:4]).permute(0, 3, 1, 2).float()
    expected = F.interpolate(raw, (32, 32), mode="bilinear").round().to(torch.uint8)
    assert torch.equal(pixels(d, x), expected)


def test_another_aspect_covers_and_crops_the_centre(save_npz: SaveNpz) -> None:
    d = data.load(save_npz(**arrays(shape=(16, 20, 3))), (3, 16, 16))
    assert d.info.preprocess.resize == 16
    raw = torch.from_numpy(arrays(shape=(16, 20, 3))["x_test"]).permute(0, 3, 1, 2)
    assert torch.equal(pixels(d, d.test_arrays()[0]), raw[..., 2:18])


def test_shrinking_agrees_with_pillow(save_npz: SaveNpz) -> None:
    from PIL import Image

    d = data.load(save_npz(**arrays(shape=(32, 32, 3))), (3, 12, 12))
    ours = pixels(d, d.test_arrays(1)[0])[0].permute(1, 2, 0).numpy().astype(int)
    image = Image.fromarray(arrays(shape=(32, 32, 3))["x_test"][0])
    theirs = np.asarray(image.resize((12, 12), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(ours - theirs).max() <= 1


def test_gray_images_are_repeated_to_three_channels(save_npz: SaveNpz) -> None:
    d = data.load(save_npz(**arrays(shape=(16, 16))), (3, 16, 16))
    x, _ = d.test_arrays()
    assert x.shape == (23, 3, 16, 16)
    assert torch.equal(x[:, 0], x[:, 2])
    assert d.info.preprocess.color == "RGB"
    assert "flip" not in d.info.augmentation


def test_color_is_never_converted_to_gray(save_npz: SaveNpz) -> None:
    with pytest.raises(CompressError, match="images of 3 channels, and the input size has 1"):
        data.load(save_npz(**arrays()), (1, 16, 16))


def test_the_fingerprint_follows_the_content_and_not_the_input_size(save_npz: SaveNpz) -> None:
    content = arrays()
    first = data.load(save_npz(**content)).info.fingerprint
    assert data.load(save_npz(**content), (3, 20, 20)).info.fingerprint == first
    content["y_test"][0] += 1
    assert data.load(save_npz(**content)).info.fingerprint != first
