"""Images held on the device that trains: the same samples, computed there without synchronization."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from image_arrays import SaveNpz, arrays
from torchvision.transforms.v2 import functional as tv

from compress import data
from compress.core.errors import CompressError
from compress.data import ImageData, order
from compress.data.augment import Augmentation
from compress.data.memory import InMemory
from compress.data.placement import MAX_SHARE, place_data

CPU, META = torch.device("cpu"), torch.device("meta")


@pytest.fixture
def images(save_npz: SaveNpz) -> ImageData:
    return data.load(save_npz(**arrays()))


@pytest.mark.parametrize(("rank", "world"), [(0, 1), (0, 2), (1, 2)])
def test_samples_equal_torchvisions_pad_crop_flip_and_normalize(
    images: ImageData, rank: int, world: int
) -> None:
    """The same draws through torchvision's own functions give the same images to the bit."""
    content, p = arrays(), images.info.preprocess
    raw = torch.from_numpy(content["x_train"]).permute(0, 3, 1, 2)
    chosen = order.train_batches(50, batch_size=8, seed=3, epoch=2, rank=rank, world=world)
    draws = Augmentation(pad=2, flip=True).draw(
        8 * len(chosen), order.generator("augment", 3, 2, rank, world)
    )
    batches = images.train_batches(epoch=2, batch_size=8, seed=3, rank=rank, world=world)
    at = 0
    for numbers, (x, y) in zip(chosen, batches, strict=True):
        for n, image, label in zip(numbers.tolist(), x, y, strict=True):
            own = tv.crop(tv.pad(raw[n], [2, 2, 2, 2]), int(draws.top[at]), int(draws.left[at]), 16, 16)
            own = tv.horizontal_flip(own) if draws.flipped[at] else own
            assert torch.equal(image, tv.normalize(own.float() / 255, list(p.mean), list(p.std)))
            assert int(label) == int(content["y_train"].reshape(-1)[n])
            at += 1
    assert at == 8 * len(chosen)


def test_batches_are_computed_on_the_device_without_synchronization(images: ImageData) -> None:
    """Meta tensors have no values, so any read of a value would fail."""
    assert isinstance(images, InMemory)
    moved = images.on_device(META)
    for x, y in moved.train_batches(epoch=0, batch_size=8, seed=0):
        assert (x.device.type, tuple(x.shape), x.dtype) == ("meta", (8, 3, 16, 16), torch.float32)
        assert (y.device.type, y.dtype) == ("meta", torch.int64)
    assert {x.device.type for x, _ in moved.test_batches(batch_size=4)} == {"meta"}


def test_images_that_fit_are_moved_and_others_are_not(images: ImageData) -> None:
    assert isinstance(images, InMemory)
    need = images.pixel_bytes
    assert need == sum(a.size for k, a in arrays().items() if k[0] == "x") + 8 * (50 + 23)
    fits, too_large = (
        place_data(images, META, "auto", free=int(need / share)) for share in (MAX_SHARE, 2 * MAX_SHARE)
    )
    assert fits.on_device and fits.data is not images
    assert not too_large.on_device and too_large.data is images
    assert "25%" in too_large.why
    assert place_data(images, META, "on", free=need).on_device


def test_off_does_not_move_and_a_cpu_needs_no_move(images: ImageData) -> None:
    off = place_data(images, META, "off")
    assert (off.data, off.on_device) == (images, False)
    on = place_data(images, CPU, "on")
    assert (on.data, on.on_device) == (images, True)


def test_data_with_another_normalization_can_be_moved(images: ImageData) -> None:
    own = data.with_normalization(images, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert place_data(own, META, "auto", free=10**9).on_device
    x, _ = own.test_arrays(4)
    raw = torch.from_numpy(arrays()["x_test"][:4]).permute(0, 3, 1, 2)
    torch.testing.assert_close(x, raw / 127.5 - 1, atol=1e-6, rtol=1e-5)


def test_images_decoded_one_by_one_stay_on_the_host(tmp_path: Path) -> None:
    from PIL import Image

    for part in ("train", "val"):
        for label in ("a", "b"):
            (tmp_path / part / label).mkdir(parents=True)
            Image.new("RGB", (40, 40)).save(tmp_path / part / label / "0.png")
    folder = data.load(f"folder:{tmp_path}", (3, 32, 32), workers=0)
    assert not place_data(folder, META, "auto").on_device
    with pytest.raises(CompressError, match="decoded image by image") as error:
        place_data(folder, META, "on")
    assert error.value.code == "data-on-device"
