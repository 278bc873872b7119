"""Folders of images on a GPU: batches arrive there, and DALI's have the host's images in the host's order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compress import data
from compress.data import deliver_to

SIZE = (3, 64, 64)
CUDA = torch.device("cuda", 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of one color each, so that a crop anywhere shows which one it is."""
    for part, count in (("train", 24), ("val", 6)):
        for number in range(count):
            where = tmp_path / part / f"c{number % 2}"
            where.mkdir(parents=True, exist_ok=True)
            pixels = np.full((90, 110, 3), (number * 10, 255 - number * 10, 128), dtype=np.uint8)
            Image.fromarray(pixels).save(where / f"{number:02}.jpg", quality=95)
    return tmp_path


def batches(images: data.ImageData, epoch: int = 0) -> list[data.Batch]:
    return list(deliver_to(images, CUDA).train_batches(epoch=epoch, batch_size=8, seed=1))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_arrive_on_the_gpu_as_on_the_cpu(folder: Path, workers: int) -> None:
    images = data.load(f"folder:{folder}", SIZE, workers=workers)
    for (x, y), (u, v) in zip(
        batches(images), images.train_batches(epoch=0, batch_size=8, seed=1), strict=True
    ):
        assert x.device == y.device == CUDA
        torch.testing.assert_close(x.cpu(), u)
        assert torch.equal(y.cpu(), v)


def test_dali_gives_the_hosts_images_in_the_hosts_order(folder: Path) -> None:
    pytest.importorskip("nvidia.dali")
    host = batches(data.load(f"folder:{folder}", SIZE, workers=2))
    dali = batches(data.load(f"folder:{folder}", SIZE, workers=2, dali=True))
    assert len(host) == len(dali) == 3
    for (x, y), (u, v) in zip(host, dali, strict=True):
        assert u.device == CUDA and u.shape == x.shape and u.dtype == torch.float32
        assert torch.equal(y, v)
        torch.testing.assert_close(u.mean((2, 3)), x.mean((2, 3)), atol=0.1, rtol=0)


def test_dali_repeats_an_epoch_and_not_the_next(folder: Path) -> None:
    pytest.importorskip("nvidia.dali")
    draw = np.random.default_rng(0)
    for path in folder.glob("train/*/*.jpg"):
        Image.fromarray(draw.integers(0, 256, (90, 110, 3), dtype=np.uint8)).save(path)
    images = data.load(f"folder:{folder}", SIZE, workers=2, dali=True)
    first, again, other = batches(images), batches(images), batches(images, epoch=1)
    assert all(torch.equal(x, u) for (x, _), (u, _) in zip(first, again, strict=True))
    assert not torch.equal(first[0][0], other[0][0])
